"""The server's own optimizer, whose gradient is the clients' mean change D (negated).

Momentum (FedAvgM): T.-M. H. Hsu, H. Qi, M. Brown, "Measuring the Effects of Non-Identical Data Distribution for
Federated Visual Classification", 2019, section 4.3. Adam: S. Reddi, Z. Charles, M. Zaheer, Z. Garrett, K. Rush,
J. Konečný, S. Kumar, H. B. McMahan, "Adaptive Federated Optimization", ICLR 2021, algorithm 2.

    momentum   v = beta v + D                                        w = w + lr v
    adam       m = beta m + (1 - beta) D;  v = b2 v + (1 - b2) D^2   w = w + lr m / (sqrt(v) + eps)

What no client sent does not move, nor does what is remembered of it.
"""

import numpy as np

BETA2, EPSILON = 0.99, 1e-3  # Reddi et al., appendix D.1: of all their tasks
LEARNING_RATES = {"none": 1.0, "momentum": 1.0, "adam": 0.01}  # where --server-lr is not given


def server_step(optimizer, name, change, found, memory, lr, momentum):
    """The step for a mean change D of a tensor, float64: (step, what is remembered of the tensor from now on).

    found: bool, the entries that any client sent; memory: by "first/NAME" and "second/NAME", float32.
    """
    if optimizer == "none":
        return lr * change, {}
    keys = {"momentum": ["first"], "adam": ["first", "second"]}[optimizer]
    old = {key: memory.get(f"{key}/{name}", np.zeros(change.shape, np.float32)) for key in keys}
    if optimizer == "momentum":
        new = {"first": momentum * old["first"].astype(np.float64) + change}
        step = lr * new["first"]
    else:
        new = {
            "first": momentum * old["first"].astype(np.float64) + (1 - momentum) * change,
            "second": BETA2 * old["second"].astype(np.float64) + (1 - BETA2) * change**2,
        }
        step = lr * new["first"] / (np.sqrt(new["second"]) + EPSILON)
    most = np.finfo(np.float32).max  # an infinite moment would stay for ever
    kept = {key: np.where(found, np.clip(new[key], -most, most), old[key]) for key in keys}
    return step, {f"{key}/{name}": value.astype(np.float32) for key, value in kept.items()}
