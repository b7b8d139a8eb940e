"""TensorBoard events of a run: the scalars of metrics.jsonl by round, and each layer's mask overlap."""

import logging

from fedgate.device_runtime.text import printable

logging.getLogger("tensorboard").setLevel(logging.ERROR)

SCALARS = (
    "loss",
    "accuracy",
    "test_loss",
    "bytes_up",
    "bytes_down",
    "macs_per_sample",
    "mask_overlap",
    "seconds",
)


class TensorBoardEvents:
    def __init__(self, path, done):
        """done: rounds that are complete; events of later ones, left by a killed process, are purged."""
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(path), purge_step=done + 1 if done else None)

    def write(self, row):
        """row: a round's line of metrics.jsonl."""
        for name in SCALARS:
            if row[name] is not None:
                self.writer.add_scalar(name, row[name], row["round"])
        self.writer.add_scalar("density", row["density"][-1], row["round"])
        for layer, masks in row["masks"].items():
            for name, value in masks.items():
                self.writer.add_scalar(f"masks/{name}/{printable(layer)}", value, row["round"])
        self.writer.flush()

    def close(self):
        self.writer.close()
