"""Norm statistics of a network with several levels, pooled from what each client saw.

A running average over batches that drew their level at random is some batches' more than others', and a mean of
clients' variances lacks what their means differ by. So a client sends the mean and the variance of its last epoch,
level by level, and they are pooled as sums over the samples of all. A channel that some of the epoch's batches left
closed counts as if it had been in them what it was in the others.
"""

import numpy as np

from .masked import masked_mean

MEAN, VARIANCE = ".running_mean", ".running_var"


def is_statistic(name):
    """Whether a tensor of a network is a running mean or variance of a norm."""
    return name.endswith((MEAN, VARIANCE))


def pooled(name, updates, spec, level):
    """A statistic of a level's norm over the samples of all clients: (float64, bool: where a client sent it).

    A client whose last epoch had no batch of the level says nothing of it.
    """
    updates = [update for update in updates if update.samples[level] > 0]

    def samples(update):
        return update.samples[level]

    if name.endswith(MEAN):
        return masked_mean(name, updates, spec, lambda update: update.values[name].astype(np.float64), samples)
    means = name.removesuffix(VARIANCE) + MEAN
    mean, found = masked_mean(means, updates, spec, lambda update: update.values[means].astype(np.float64), samples)
    second, _ = masked_mean(
        name,
        updates,
        spec,
        lambda update: update.values[name].astype(np.float64) + update.values[means].astype(np.float64) ** 2,
        samples,
    )
    return np.maximum(second - mean**2, 0.0), found
