"""FedAvg: B. McMahan, E. Moore, D. Ramage, S. Hampson, B. Agüera y Arcas, "Communication-Efficient Learning of Deep
Networks from Decentralized Data", AISTATS 2017, algorithm 1; over masks, each entry among the clients that sent it.
"""

from .masked import masked_mean


def fedavg(name, updates, spec):
    """w_j = sum_k n_k w_kj / sum_k n_k over the clients that sent j: (float64, bool: where one did)."""
    return masked_mean(name, updates, spec, lambda update: update.values[name], lambda update: update.examples)
