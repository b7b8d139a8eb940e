"""A training run: from a resolved configuration to a run directory, round by round."""

import functools
import hashlib
import platform
import time
import uuid
from importlib import metadata

import numpy as np
import torch

from fedgate.device_runtime import macs
from fedgate.device_runtime.errors import UsageError
from fedgate.device_runtime.update import decode_update

from .checkpoint import Checkpoint
from .client import LocalPlan, client_seed, resolve_precision
from .config import TrainConfig
from .data import load_data
from .downloads import Broadcast, note_changes
from .local_engine import LocalEngine
from .network import build_network, network_tensors
from .partition import class_table, partition
from .run_directory import MetricsLog, RunDirectory, RunInfo
from .salience import SalienceRecord
from .schedule import densities_at, learning_rate_at
from .strategies import ServerState, round_step
from .wire import held_round, record_of, update_spec

SERVER_STREAM = 2**32 - 1  # beside the numbers of clients in seeds


def resolve_device(name):
    """ "auto" is CUDA where there is one, else the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device '{name}' cannot be used here: {str(error).splitlines()[0]}") from error
    return device


def data_facts(data):
    """What a run records of its data; the hash tells whether a resumed run still has the same."""
    digest = hashlib.sha256()
    for tensor in (data.train_images, data.train_labels, data.test_images, data.test_labels):
        digest.update(tensor.contiguous().numpy().tobytes())
    return {
        "name": data.name,
        "sha256": digest.hexdigest(),
        "labels": list(data.labels),
        "shape": list(data.train_images.shape[1:]),
        "mean": [float(value) for value in data.mean],
        "std": [float(value) for value in data.std],
    }


def describe_run(config: TrainConfig, data) -> RunInfo:
    """Look up everything that "auto" stands for, once: a resumed run keeps it."""
    device = resolve_device(config.device)
    resolved = {
        "device": device.type,
        "precision": resolve_precision(config.precision, device),
        "augment": data.augment if config.augment == "auto" else config.augment,
    }
    versions = {name: metadata.version(name) for name in ("fedgate", "torch", "numpy")}
    versions["python"] = platform.python_version()
    return RunInfo(uuid.uuid4().hex[:12], config, resolved, data_facts(data), versions)


def make_network(info: RunInfo, device="cpu"):
    """A run's network with its initial weights, which its seed alone decides."""
    config, data = info.config, info.data
    torch.manual_seed(config.seed)
    network = build_network(config.model, config.gate, config.density, len(data["labels"]), data["shape"], config.width)
    return network.to(device)


def run_data(config: TrainConfig):
    """The data of a configuration."""
    return load_data(config.data, config.label, config.group, config.image_size)


def prepare(config: TrainConfig):
    """The data of a configuration and its partition: (data, list of index arrays, one a client)."""
    data = run_data(config)
    parts = partition(
        data.train_labels.numpy(), config.clients, config.partition, config.seed, groups=data.train_groups
    )
    return data, parts


def make_engine(info: RunInfo, data, parts, workers):
    """The engine that trains and evaluates a run's network."""
    if data_facts(data)["sha256"] != info.data["sha256"]:
        raise UsageError(f"'{info.config.data}' now holds other data than this run was trained on")
    build = functools.partial(make_network, info, info.resolved["device"])
    return LocalEngine(build, data, parts, info.resolved["precision"], workers)


class Run:
    """A run directory with the state of its newest checkpoint, and the round loop over it."""

    def __init__(self, directory: RunDirectory, data, parts, workers=1):
        self.directory, self.data, self.parts = directory, data, parts
        self.info, self.config = directory.info, directory.info.config
        self.network = make_network(self.info)
        self.layers = self.network.layers
        self.levels = len(self.config.density)
        self.table = class_table(data.train_labels.numpy(), parts, len(data.labels))
        self.engine = make_engine(self.info, data, parts, workers)
        self.log = MetricsLog(directory.path / "metrics.jsonl")  # from here on no other process has this run
        try:
            self.load()
        except BaseException:
            self.log.close()
            raise

    def load(self):
        """Take up the newest checkpoint, or the initial state where there is none."""
        initial = ServerState(0, network_tensors(self.network))
        checkpoint = self.directory.load() or Checkpoint(initial, progress={"metrics_bytes": 0})
        self.state, self.salience, self.clients = checkpoint.state, checkpoint.salience, checkpoint.clients
        self.log.cut(checkpoint.progress["metrics_bytes"])

    def plan(self, client):
        """What a client is asked to do in the round that follows the present state."""
        config, done = self.config, self.state.round
        return LocalPlan(
            densities=densities_at(config.density, done, config.rounds, config.density_schedule),
            epochs=config.local_epochs,
            batch_size=config.batch_size,
            lr=learning_rate_at(
                config.lr, done, config.rounds, config.lr_schedule, config.lr_decay, config.local_epochs
            ),
            lr_decay=config.lr_decay if config.lr_schedule == "exponential" else 1.0,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            clip_norm=config.clip_norm,
            augment=self.info.resolved["augment"],
            precision=self.info.resolved["precision"],
            seed=client_seed(config.seed, done, client),
            adaptive_gradient=config.adaptive_gradient,
            codec=config.codec,
        )

    def broadcast(self):
        """What the server sends at the start of the round that follows the present state."""
        spec = update_spec(self.network, self.info.run)
        seed = (self.config.seed, self.state.round, SERVER_STREAM)
        return Broadcast(self.state, spec, self.config.download_codec, seed)

    def rounds(self):
        """Run what is left of the rounds; yields each round's row of metrics.jsonl."""
        while self.state.round < self.config.rounds:
            yield self.round()
        if not self.directory.model_path.exists():
            self.directory.write_model(self.state)

    def round(self):
        """One round: download, local training, upload, aggregation, evaluation, checkpoint."""
        started = time.perf_counter()
        broadcast = self.broadcast()
        sent = {
            client: len(broadcast.blob(held_round(self.clients.get(client, {}))))
            for client in range(self.config.clients)
        }
        densities = self.plan(0).densities
        updates, rows = [], []
        for result in self.engine.train(range(self.config.clients), broadcast, self.plan, self.clients):
            self.clients[result.client] = result.state
            update = decode_update(result.blob, broadcast.spec, broadcast.public)
            record = record_of(update)
            self.salience[f"client-{result.client}"] = record
            updates.append(update)
            rows.append(self.client_row(result, update, record, densities, sent[result.client]))
        after = round_step(self.state, updates)
        self.state = note_changes(self.state, after, broadcast.spec, broadcast.public)
        clients = [self.salience[scope] for scope in sorted(self.salience) if scope != "global"]
        self.salience["global"] = functools.reduce(SalienceRecord.__add__, clients)
        row = self.round_row(rows, densities)
        row["images_per_cpu_second"] = row["examples"] * self.config.local_epochs / max(row["cpu_seconds"], 1e-3)
        row["seconds"] = round(time.perf_counter() - started, 3)
        for line in (*rows, row):
            self.log.write(line)
        progress = {"metrics_bytes": self.log.sync()}
        self.directory.save(Checkpoint(self.state, self.salience, self.clients, progress))
        return row

    def client_row(self, result, update, record, densities, bytes_down):
        top = self.levels - 1
        return {
            "round": self.state.round + 1,
            "client": result.client,
            "examples": update.examples,
            "loss": result.loss,
            "accuracy": result.accuracy,
            "bytes_up": len(result.blob),
            "bytes_down": bytes_down,
            "macs_per_sample": sum(macs.nominal(self.layers, densities[top]).values()),
            "kept_share": 1.0,
            "mask_overlap": mean_overlap(record, top),
            "cpu_seconds": round(result.cpu_seconds, 3),
            "seconds": round(result.seconds, 3),
        }

    def round_row(self, rows, densities):
        """The round's own line; its accuracy, MACs and overlap are of the default (highest) level on the test set.

        The test set is seen at the densities of the round, as the network was trained: it is tied to them, and a
        schedule that has not arrived yet would make it look worse than it is.
        """
        evaluation = self.engine.evaluate(self.state.tensors, densities)
        top = self.levels - 1
        statistics = evaluation.salience.mask_statistics(top)
        examples = sum(row["examples"] for row in rows)
        return {
            "round": self.state.round,
            "client": None,
            "density": densities,
            "examples": examples,
            "loss": sum(row["loss"] * row["examples"] for row in rows) / examples,
            "accuracy": evaluation.accuracy()[top],
            "accuracy_by_level": evaluation.accuracy(),
            "test_loss": evaluation.loss[top] / evaluation.images[top],
            "cpu_seconds": sum(row["cpu_seconds"] for row in rows),
            "bytes_up": sum(row["bytes_up"] for row in rows),
            "bytes_down": sum(row["bytes_down"] for row in rows),
            "macs_per_sample": evaluation.executed[top].sum() / evaluation.images[top],
            "kept_share": 1.0,
            "mask_overlap": mean_overlap(evaluation.salience, top),
            "masks": {
                name: {"overlap": overlap, "never": never, "always": always}
                for name, (overlap, never, always) in statistics.items()
            },
        }

    def __enter__(self):
        return self

    def __exit__(self, error, *_):
        """Stop the workers, at once when a round was interrupted or failed."""
        self.engine.close(at_once=error is not None)
        self.log.close()


def mean_overlap(record, level):
    """Mean over the gated layers of how much the masks of different inputs overlap; None without gates."""
    statistics = record.mask_statistics(level)
    return float(np.mean([overlap for overlap, _, _ in statistics.values()])) if statistics else None
