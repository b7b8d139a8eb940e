"""Salience records: how often and how strongly samples opened each channel; and what the masks look like.

A record holds, for each gated layer, `opened` (levels, C) int64, the number of samples that opened a channel, and
`strength` (levels, C) float64, the sum of pi over them; and `samples` (levels,), the number of samples seen.
"""

from dataclasses import dataclass

import numpy as np
import torch

from ..data.augment import normalise

OBSERVED_AT_ONCE = 250


@dataclass
class SalienceRecord:
    opened: dict[str, np.ndarray]
    strength: dict[str, np.ndarray]
    samples: np.ndarray

    @classmethod
    def empty(cls, channels, levels):
        """A record of no samples; channels: layer -> C."""
        return cls(
            {name: np.zeros((levels, c), np.int64) for name, c in channels.items()},
            {name: np.zeros((levels, c), np.float64) for name, c in channels.items()},
            np.zeros(levels, np.int64),
        )

    def __add__(self, other):
        return SalienceRecord(
            {name: self.opened[name] + other.opened[name] for name in self.opened},
            {name: self.strength[name] + other.strength[name] for name in self.strength},
            self.samples + other.samples,
        )

    def tensors(self, scope):
        """The record as the named arrays of a bundle's `salience.safetensors`."""
        arrays = {f"{scope}/samples": self.samples}
        for name in self.opened:
            arrays[f"{scope}/opened/{name}"] = self.opened[name]
            arrays[f"{scope}/strength/{name}"] = self.strength[name]
        return arrays

    @classmethod
    def from_tensors(cls, arrays, scope):
        """The inverse of `tensors`."""

        def part(kind):
            prefix = f"{scope}/{kind}/"
            return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}

        return cls(part("opened"), part("strength"), arrays[f"{scope}/samples"])

    def mask_statistics(self, level):
        """Per gated layer: (overlap, never, always) of the masks at a level, as fractions of 1.

        overlap: the expected share of its open channels that an input has in common with another input,
        sum_c n_c (n_c - 1) / ((N - 1) sum_c n_c) for n_c of N samples that opened channel c; masks drawn at random
        would have k / C, constant ones have 1. never, always: channels that no sample, or each, opened.
        """
        n = int(self.samples[level])
        statistics = {}
        for name, opened in self.opened.items():
            count = opened[level].astype(np.float64)
            pairs = (n - 1) * count.sum()
            overlap = float((count * (count - 1)).sum() / pairs) if pairs > 0 else 1.0
            statistics[name] = (overlap, float((count == 0).mean()), float((count == n).mean()))
        return statistics

    def kept_channels(self, name, level, k):
        """The k most opened channels of a layer at a level, sorted; among equals the stronger, then the lower."""
        opened, strength = self.opened[name][level], self.strength[name][level]
        order = np.lexsort((np.arange(opened.size), -strength, -opened))
        return np.sort(order[:k])


class SalienceCollector:
    """Adds up what the forward passes of a network open, without leaving the device until `record` is asked for."""

    def __init__(self, network):
        self.network = network
        self.sums = {}
        self.samples = np.zeros(len(network.densities), np.int64)

    @torch.no_grad()
    def add(self):
        """Count the network's last forward pass."""
        level = self.network.level
        for name, gate in self.network.gates.items():
            opened, strength = gate.open.sum(0), gate.pi.sum(0, dtype=torch.float64)
            before = self.sums.get((name, level), (0, 0))
            self.sums[name, level] = (before[0] + opened, before[1] + strength)
            samples = gate.open.shape[0]
        if self.network.gates:
            self.samples[level] += samples

    def record(self):
        """Everything since the start, as a `SalienceRecord`."""
        channels = {name: gate.out_channels for name, gate in self.network.gates.items()}
        record = SalienceRecord.empty(channels, len(self.samples))
        for (name, level), (opened, strength) in self.sums.items():
            record.opened[name][level] = opened.cpu().numpy()
            record.strength[name][level] = strength.cpu().numpy()
        record.samples[:] = self.samples
        return record


@torch.no_grad()
def observe(network, images, statistics):
    """The record of images uint8 (n, C, H, W) at every level, in evaluation mode, as the network's densities are set.

    statistics: (mean, std) of the data that the network was trained on, C floats each.
    """
    collector = SalienceCollector(network.eval())
    for part in images.split(OBSERVED_AT_ONCE):
        x = normalise(part, *statistics)
        for level in range(len(network.densities)):
            network.level = level
            network(x)
            collector.add()
    network.forget()
    return collector.record()
