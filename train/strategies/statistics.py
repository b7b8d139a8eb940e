"""Norm statistics within reach of what the other clients say.

A running mean or variance is taken as far as it lies from the entry's median over the clients: a variance within a
factor, a mean within half a standard deviation. Honest clients that hold few classes lie further off in some channels,
which then count less; a network whose every layer is shifted by a tenth of two deviations is ruined. A median of fewer
than three takes in the state's own; where even that is young, or a round has fewer than three clients, the bounds are
wide: they keep the state finite and near enough to come back.
"""

import dataclasses

import numpy as np

from .masked import ENOUGH, place, senders, take
from .norms import MEAN, VARIANCE

FACTOR, DEVIATIONS = 1.5, 0.5
WIDE = 100.0


def bounded_statistics(updates, base, spec, round_):
    """Updates whose norm statistics were brought within the bounds; those that were there are the same objects.

    base: tensors by name, of the state that follows `round_` rounds.
    """
    values = {}
    for name in spec.parameters:
        mean_name = name.removesuffix(VARIANCE) + MEAN
        there = senders(name, updates)
        if not name.endswith(VARIANCE) or not there:
            continue
        parts = [place(name, update.values[name], update, spec) for update in there]
        sent, means = np.array([each for _, each in parts]), None
        variances = np.array([whole for whole, _ in parts])
        if mean_name in spec.parameters:
            means = np.array([place(mean_name, update.values[mean_name], update, spec)[0] for update in there])
        young = len(updates) < ENOUGH or round_ == 0
        made = within(means, variances, sent, base.get(mean_name), base[name], young)
        for key, arrays in zip((mean_name, name), made, strict=True):
            if arrays is not None:
                for update, whole in zip(there, arrays, strict=True):
                    part = take(key, whole, update, spec).astype(np.float32)
                    if (part != update.values[key]).any():
                        values.setdefault(id(update), {})[key] = part
    return [
        dataclasses.replace(update, values=update.values | values[id(update)]) if id(update) in values else update
        for update in updates
    ]


def within(means, variances, sent, base_mean, base_variance, young=False):
    """(means, variances) within the bounds, float64 (n, C), of n clients; means may be None.

    sent: bool (n, C), where a client sent the channel. young: whether a base says too little to be held to.
    """
    wide = np.where((sent.sum(0) >= ENOUGH) | (not young), 1.0, WIDE)
    middle, factor = median(variances, sent, base_variance), FACTOR * wide
    # a channel that most clients' images leave dark has none: it is measured by the layer's
    scale = np.maximum(middle, max(1e-2 * float(np.median(middle)), 1e-12))
    made = np.clip(variances, middle / factor, scale * factor)
    if means is None:
        return None, made
    centre, reach = median(means, sent, base_mean), DEVIATIONS * wide * np.sqrt(scale)
    return np.clip(means, centre - reach, centre + reach), made


def median(values, sent, base):
    """By entry the lower median of those who sent it, (C,); fewer than three are joined by the base."""
    count = sent.sum(0)
    joined = [np.where(count < ENOUGH, base, np.inf), np.where(count < ENOUGH - 1, base, np.inf)]
    rows = np.sort(np.concatenate([np.where(sent, values, np.inf), joined]), axis=0)
    rank = (np.maximum(count, np.minimum(count + 2, ENOUGH)) - 1) // 2
    return np.take_along_axis(rows, rank[None], axis=0)[0]
