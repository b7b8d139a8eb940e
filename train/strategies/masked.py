"""Sums over clients that each sent some channels of a tensor.

Sums are float64 and run in the order of the updates, so that a result depends on nothing else.
"""

import numpy as np

from fedgate.device_runtime.formats import slices

ENOUGH = 3  # values whose median one liar among them cannot choose


def senders(name, updates):
    """The updates that hold a tensor at all: a norm of a level that a client did not train is not in its own."""
    return [update for update in updates if name in update.values]


def place(name, part, update, spec):
    """A client's slice of a tensor in the whole: (float64, zeros elsewhere; bool, where it is)."""
    shape, axes = spec.parameters[name], spec.axes[name]
    whole = np.zeros(shape, np.float64)
    slices.put(whole, axes, update.channels, spec.channels, part)
    return whole, slices.mask(shape, axes, update.channels, spec.channels)


def take(name, whole, update, spec):
    """The slice of a whole tensor that a client sent."""
    return slices.take(whole, spec.axes[name], update.channels, spec.channels)


def masked_mean(name, updates, spec, part_of, weight_of):
    """w_j = sum_k n_k m_kj w_kj / sum_k n_k m_kj: (float64, zeros where no client sent j; bool, where one did).

    part_of, weight_of: update -> its slice and its n_k.
    """
    shape = spec.parameters[name]
    total, weight = np.zeros(shape, np.float64), np.zeros(shape, np.float64)
    for update in senders(name, updates):
        whole, sent = place(name, part_of(update), update, spec)
        total += whole * weight_of(update)
        weight += sent * float(weight_of(update))
    found = weight > 0
    return np.divide(total, weight, out=np.zeros(shape, np.float64), where=found), found
