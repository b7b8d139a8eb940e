"""Salience records: how often and how strongly samples opened each channel; and what the masks look like."""

from dataclasses import dataclass

import numpy as np


@dataclass
class SalienceRecord:
    """By gated layer `opened` (levels, C) int64, how many samples opened a channel, and `strength` (levels, C) float64,
    the sum of pi over them; `samples` int64 (levels,), how many were seen.
    """

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
