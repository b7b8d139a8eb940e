"""Aggregation that a few clients cannot steer.

Trimmed mean and median by coordinate: D. Yin, Y. Chen, K. Ramchandran, P. Bartlett, "Byzantine-Robust Distributed
Learning: Towards Optimal Statistical Rates", ICML 2018, definitions 1 and 2. Clients weigh the same: who claims more
examples gains nothing. Of one or two values none can be left out, so an entry that fewer than three sent stays.
"""

import numpy as np

from .masked import ENOUGH, place, senders

TRIMMED = 0.2  # of the values of an entry, at each end; at least one


def robust(kind, name, updates, spec):
    """The trimmed mean or median of an entry's values among those who sent it: (float64, bool: where enough did)."""
    placed = [place(name, update.values[name], update, spec) for update in senders(name, updates)]
    if not placed:
        return np.zeros(spec.parameters[name]), np.zeros(spec.parameters[name], bool)
    values = np.sort(np.stack([np.where(sent, whole, np.inf) for whole, sent in placed]), axis=0)  # absent ones last
    count = np.sum([sent for _, sent in placed], axis=0)
    low = (count - 1) // 2 if kind == "median" else np.maximum(1, (TRIMMED * count).astype(np.int64))
    rank = np.arange(len(placed)).reshape(-1, *[1] * count.ndim)
    kept = (rank >= low) & (rank < count - low)
    return np.where(kept, values, 0.0).sum(0) / np.maximum(1, kept.sum(0)), count >= ENOUGH
