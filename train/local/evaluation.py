"""Evaluation: accuracy, calibration, executed MACs and masks of a network on a set of images, level by level."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from fedgate.device_runtime.formats import macs
from fedgate.device_runtime.formats.salience import SalienceRecord

from ..data.augment import normalise
from ..network.salience import SalienceCollector

BINS = (
    15  # of confidence, equally wide: C. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 5
)
CHUNK = 250  # images a task; fixed, so that sums are the same however many workers share the tasks


@dataclass(frozen=True)
class Evaluation:
    """Counts and sums, so that the evaluations of parts add up to that of the whole.

    correct, total: (levels, classes) counts; loss: (levels,) sums; executed: (levels, layers) sums of MACs;
    overconfidence: (levels, BINS) sums of confidence minus hits (0 or 1) over the images of each bin of confidence.
    """

    correct: np.ndarray
    total: np.ndarray
    loss: np.ndarray
    overconfidence: np.ndarray
    executed: np.ndarray
    salience: SalienceRecord

    def __add__(self, other):
        fields = ("correct", "total", "loss", "overconfidence", "executed", "salience")
        return Evaluation(*(getattr(self, name) + getattr(other, name) for name in fields))

    @property
    def images(self):
        return self.total.sum(1)

    def accuracy(self):
        """(levels,) fractions."""
        return self.correct.sum(1) / np.maximum(1, self.images)

    def calibration_error(self):
        """Expected calibration error, (levels,) fractions: sum over bins of n_b / n |accuracy_b - confidence_b|.

        That is what the mean of |sum over the bin of confidence - hit| comes to (Guo et al., equation 3).
        """
        return np.abs(self.overconfidence).sum(1) / np.maximum(1, self.images)

    def client_accuracy(self, class_table):
        """Accuracy a client would see: that of each class, weighted by how often the client holds it.

        class_table: (clients, classes) examples. Exact where clients differ in their labels alone, as after a
        partition by label. Classes that were not evaluated count for nothing. Returns (levels, clients).
        """
        by_class = self.correct / np.maximum(1, self.total)
        seen = class_table * (self.total[0] > 0)
        share = seen / np.maximum(1, seen.sum(1, keepdims=True))
        return by_class @ share.T


@torch.no_grad()
def evaluate(network, images, labels, statistics, precision, classes) -> Evaluation:
    """Evaluate every level, as the network's densities are set, on images uint8 (n, C, H, W) and labels int64 (n,)."""
    device = next(network.parameters()).device
    network.eval()
    levels = len(network.densities)
    correct, total = np.zeros((levels, classes), np.int64), np.zeros((levels, classes), np.int64)
    loss, overconfidence = np.zeros(levels), np.zeros((levels, BINS))
    executed = np.zeros((levels, len(network.layers)), np.int64)
    collector = SalienceCollector(network)
    x = normalise(images.to(device), *statistics).contiguous(memory_format=torch.channels_last)
    y = labels.to(device)
    for level in range(levels):
        network.level = level
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            logits = network(x).float()
        collector.add()
        hit = logits.argmax(1) == y
        correct[level] = torch.bincount(y[hit], minlength=classes).cpu().numpy()
        total[level] = torch.bincount(y, minlength=classes).cpu().numpy()
        loss[level] = F.cross_entropy(logits, y, reduction="sum").item()
        overconfidence[level] = overconfidence_by_bin(logits.double().softmax(1).amax(1), hit)
        executed[level] = executed_macs(network, len(y)).sum(0)
    return Evaluation(correct, total, loss, overconfidence, executed, collector.record())


def overconfidence_by_bin(confidence, hit):
    """Sums of confidence - hit in each bin ((b - 1) / BINS, b / BINS]: confidence float64 (n,), hit bool (n,)."""
    index = (confidence.mul(BINS).ceil().long() - 1).clamp(0, BINS - 1)
    sums = torch.zeros(BINS, dtype=torch.float64, device=confidence.device)
    return sums.index_add_(0, index, confidence - hit.double()).cpu().numpy()


def executed_macs(network, count):
    """MACs that the masks of the last forward pass of `count` images ask for: int64 (count, layers)."""
    opened = network.open().cpu().numpy() if network.gates else np.zeros((count, 0), bool)
    return np.stack(list(macs.executed(network.layers, opened).values()), axis=1)


def chunks(count):
    """Slices that cover a test set of `count` images."""
    return [slice(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
