"""Who takes part in a round, and at which level: pure functions of the seed and the round."""

import numpy as np

from fedgate.device_runtime.errors import UsageError

from .draws import generator


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


def parse_capacity(text):
    """'1.0:0.3,0.4:0.7' -> ((0.4, 0.7), (1.0, 0.3)): densities, increasing, with their shares of the clients."""
    try:
        pairs = sorted(tuple(float(part) for part in item.split(":")) for item in text.split(","))
        densities, shares = zip(*((density, share) for density, share in pairs), strict=True)
    except ValueError as error:
        raise UsageError(f"--capacity '{text}' is no list of DENSITY:SHARE such as 1.0:0.3,0.5:0.7") from error
    if len(set(densities)) < len(densities):
        raise UsageError(f"--capacity '{text}' names a density twice")
    if not all(0 < share <= 1 for share in shares) or abs(sum(shares) - 1) > 1e-6:
        raise UsageError(f"--capacity '{text}': the shares of the clients must be above 0 and sum to 1")
    return tuple(pairs)


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
