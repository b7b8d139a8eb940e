"""What a network's forward passes add to a salience record."""

import numpy as np
import torch

from fedgate.device_runtime.formats.salience import SalienceRecord

from ..data.augment import normalise

OBSERVED_AT_ONCE = 250


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
