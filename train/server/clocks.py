"""Simulated time: what a round would take on devices and links of given speeds. Nothing here is measured.

A client's round takes the time of its download, its training and its upload, one after the other. Training costs three
times a forward pass (the gradients by the inputs and by the weights cost one each) of every example in every epoch, at
the nominal MACs of the densities it trains: the device is assumed to skip what its gates close, in both directions. It
does `--client-speed` times 1e9 MACs a second, times its own factor. The server's own work takes no time.
"""

from dataclasses import dataclass

import numpy as np

from fedgate.device_runtime.formats import macs

from ..config.values import parse_rate, parse_spread
from ..draws import generator

TRAINING = 3  # MACs of a training step, in forward passes


def client_speeds(seed, clients, spread):
    """Each client's factor of the common speed, float64 (clients,).

    spread: of `parse_spread`. One number is sigma of a log-normal of median 1; two are the ends of a range in which
    the logarithm is uniform.
    """
    draws = generator(seed, "speed")
    if len(spread) == 1:
        return np.exp(spread[0] * draws.standard_normal(clients))
    return np.exp(draws.uniform(*np.log(spread), clients))


def training_macs(layers, densities, level=None):
    """Mean MACs of one example's training step. level: the one that is trained, or None where batches draw theirs.

    A drawn level below the highest also costs a forward pass of the highest, its teacher.
    """
    costs = [sum(macs.nominal(layers, density).values()) for density in densities]
    if level is not None:
        return float(TRAINING * costs[level])
    teacher = costs[-1]
    return float(np.mean([TRAINING * cost + teacher for cost in costs[:-1]] + [TRAINING * teacher]))


@dataclass(frozen=True)
class Clocks:
    """speeds: (clients,) factors of `macs_per_second`; uplink, downlink: bits a second of every client's link."""

    speeds: np.ndarray
    macs_per_second: float
    uplink: float
    downlink: float

    def receiving(self, size):
        """Seconds until a client has a download of `size` bytes."""
        return 8 * size / self.downlink

    def training(self, client, total_macs):
        """Seconds that a client takes for so many multiply-adds."""
        return float(total_macs / (self.macs_per_second * self.speeds[client]))

    def sending(self, size):
        return 8 * size / self.uplink


def make_clocks(config):
    """The clocks that a `TrainConfig` describes."""
    speeds = client_speeds(config.seed, config.clients, parse_spread(config.speed_spread))
    return Clocks(speeds, 1e9 * config.client_speed, parse_rate(config.uplink), parse_rate(config.downlink))
