"""Aggregation that a few clients cannot steer.

Trimmed mean and median by coordinate: D. Yin, Y. Chen, K. Ramchandran, P. Bartlett, "Byzantine-Robust Distributed
Learning: Towards Optimal Statistical Rates", ICML 2018, definitions 1 and 2. Clients weigh the same: who claims more
examples gains nothing. Clipping: Z. Sun, P. Kairouz, A. T. Suresh, H. B. McMahan, "Can You Really Backdoor Federated
Learning?", 2019, section 3.2.
"""

import dataclasses

import numpy as np

from .masked import place, senders, take

TRIMMED = 0.2  # of the values of an entry, at each end


def robust(kind, name, updates, spec):
    """The trimmed mean or the median of an entry's values among those who sent it: (float64, bool: where one did)."""
    placed = [place(name, update.values[name], update, spec) for update in senders(name, updates)]
    if not placed:
        return np.zeros(spec.parameters[name]), np.zeros(spec.parameters[name], bool)
    values = np.sort(np.stack([np.where(sent, whole, np.inf) for whole, sent in placed]), axis=0)  # absent ones last
    count = np.sum([sent for _, sent in placed], axis=0)
    low = (count - 1) // 2 if kind == "median" else (TRIMMED * count).astype(np.int64)
    rank = np.arange(len(placed)).reshape(-1, *[1] * count.ndim)
    kept = (rank >= low) & (rank < count - low)
    return np.where(kept, values, 0.0).sum(0) / np.maximum(1, kept.sum(0)), count > 0


def clip(update, base, spec, parameters, limit):
    """An update whose change is at most `limit` long: the Euclidean norm over all `parameters` that it sent.

    Its norm statistics and control variates shrink by the same factor. base: the weights from which it started.
    """
    starts = {name: take(name, base[name], update, spec).astype(np.float64) for name in update.values}
    changes = {name: value - starts[name] for name, value in update.values.items()}
    length = np.sqrt(sum((changes[name] ** 2).sum() for name in sorted(changes) if name in parameters))
    if length <= limit:
        return update
    share = limit / length
    values = {name: (starts[name] + share * change).astype(np.float32) for name, change in changes.items()}
    control = {name: (share * value).astype(np.float32) for name, value in update.control.items()}
    return dataclasses.replace(update, values=values, control=control)
