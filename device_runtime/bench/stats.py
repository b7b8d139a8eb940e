"""Medians of paired timings, with intervals that assume nothing about how the noise is distributed."""

from math import comb

import numpy as np


def median_interval(values: np.ndarray) -> tuple[float, float, float]:
    """The median of values (n,) and an interval that covers the true one with at least 95 %.

    The ends are order statistics: the number of values below the true median is binomial(n, 1/2), whatever their
    distribution. Fewer than six values cannot give 95 %, and then the ends are the extremes.
    """
    ranked = np.sort(np.asarray(values, np.float64))
    n = len(ranked)
    # the largest `rank` with P(fewer than `rank` values below the median) <= 2.5 %, in whole numbers: 2^n is no float
    rank, tail = 0, 1
    while 40 * tail <= 2**n:
        rank += 1
        tail += comb(n, rank)
    low = max(rank - 1, 0)
    return float(np.median(ranked)), float(ranked[low]), float(ranked[n - 1 - low])


def paired_ratio(times: np.ndarray, baseline: np.ndarray) -> tuple[float, float, float]:
    """Median over rounds of times / baseline, both (rounds,), with its 95 % interval.

    Paired, because the speed of a shared machine drifts by far more than the differences between two programs.
    """
    return median_interval(np.asarray(times) / np.asarray(baseline))
