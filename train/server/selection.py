"""Who takes part in a round, and at which level: pure functions of the seed and the round."""

import numpy as np

from ..config.values import parse_capacity
from ..draws import generator


def sample_clients(seed, round_index, available, clients, fraction, least):
    """The sorted clients of a round (0-based), drawn evenly from `available`, a sorted list.

    As Flower's `fraction_train` and `min_train_nodes`: a fraction of all `clients`, rounded down, but at least
    `least`; fewer where fewer are available.
    """
    count = min(max(int(fraction * clients), least), len(available))
    if count == len(available):
        return list(available)
    drawn = generator(seed, "selection", round_index).choice(len(available), count, replace=False)
    return [available[i] for i in np.sort(drawn)]


def client_levels(seed, clients, shares):
    """The level of each client, int64 (clients,), as many of each as `shares` says by the largest remainders."""
    exact = np.array(shares, np.float64) * clients / sum(shares)
    counts = np.floor(exact + 1e-9).astype(np.int64)
    first = np.argsort(-(exact - counts), kind="stable")
    counts[first[: clients - counts.sum()]] += 1
    return generator(seed, "capacity").permutation(np.repeat(np.arange(len(counts)), counts))


def capacity_levels(config):
    """Each client's level as a list of ints, or of None where all clients train all levels."""
    if config.capacity is None:
        return [None] * config.clients
    densities, shares = zip(*parse_capacity(config.capacity), strict=True)
    levels = [config.density.index(density) for density in densities]
    return [levels[i] for i in client_levels(config.seed, config.clients, shares)]
