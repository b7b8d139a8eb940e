"""How sure a network is of what it says, and in which bin of scores that falls."""

import numpy as np

SCORES = ("probability", "margin")
# Edges at 1 - 2^(-i/8): the share of wrong answers falls by the same factor from one to the next, and near 1, where
# sure networks say most, they lie nearly as close as float32 can tell them apart.
EDGES = (1 - 2 ** -(np.arange(1, 161) / 8)).astype(np.float32)
BINS = len(EDGES) + 1


def scores(logits: np.ndarray, kind: str = "probability") -> np.ndarray:
    """Of logits (n, classes): float32 (n,), the largest softmax probability, or how far it is ahead of the next.

    Computed in float32, so that every device decides alike.
    """
    logits = np.asarray(logits, np.float32)
    powers = np.exp(logits - logits.max(1, keepdims=True))
    if kind == "margin":
        ordered = np.partition(powers, -2, axis=1) if powers.shape[1] > 1 else np.pad(powers, ((0, 0), (1, 0)))
        return (ordered[:, -1] - ordered[:, -2]) / powers.sum(1)
    return powers.max(1) / powers.sum(1)


def bins(found: np.ndarray) -> np.ndarray:
    """The bin of each score, int64 (n,): how many of `EDGES` it reaches. A threshold is an edge."""
    return np.searchsorted(EDGES, found, side="right").astype(np.int64)
