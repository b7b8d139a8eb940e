"""Aggregation: what the server makes of its clients' updates, as pure functions.

FedAvg: B. McMahan, E. Moore, D. Ramage, S. Hampson, B. Agüera y Arcas, "Communication-Efficient Learning of Deep
Networks from Decentralized Data", AISTATS 2017, algorithm 1.
"""

from dataclasses import dataclass, field

import numpy as np

from fedgate.device_runtime.errors import FedgateError


@dataclass(frozen=True)
class ServerState:
    """round: the number of rounds done. tensors: parameters and norm statistics by name, float32.

    public: the weights that the clients of the last round were given, as `tensors`; empty before the first. changed: by
    gated layer, int32 (C,), the last round whose aggregation changed anything that the channel indexes.
    """

    round: int
    tensors: dict[str, np.ndarray]
    public: dict[str, np.ndarray] = field(default_factory=dict)
    changed: dict[str, np.ndarray] = field(default_factory=dict)


def fedavg(updates):
    """Mean of the clients' values, weighted by their examples: w = sum_k n_k w_k / sum_k n_k.

    Sums are float64 and run in the order of `updates`, so that the result depends on nothing else.
    """
    total = float(sum(update.examples for update in updates))
    mean = {}
    for name, first in updates[0].values.items():
        sum_ = np.zeros(first.shape, np.float64)
        for update in updates:
            sum_ += update.values[name].astype(np.float64) * update.examples
        mean[name] = (sum_ / total).astype(np.float32)
    return mean


def round_step(state: ServerState, updates) -> ServerState:
    """One round: the clients' updates, in any order, make the next state."""
    if not updates:
        raise FedgateError(f"round {state.round + 1} got no update from any client")
    updates = sorted(updates, key=lambda update: update.client)
    return ServerState(state.round + 1, fedavg(updates))
