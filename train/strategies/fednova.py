"""FedNova: J. Wang, Q. Liu, H. Liang, G. Joshi, H. V. Poor, "Tackling the Objective Inconsistency Problem in
Heterogeneous Federated Optimization", NeurIPS 2020, equation 6 and section 4 (a_i of local momentum).

A client that makes more steps would pull the mean towards its own optimum. So each client's change is divided by |a_k|,
the steps' weights in it, and the mean is taken that many steps far again, tau = sum_k p_k |a_k|:

    w = w_t + tau sum_k p_k (w_k - w_t) / |a_k|

p_k = n_k / sum n, among the clients that sent the entry. A batch that left a channel closed had a gradient of zero for
it: it is one of the steps of its client's objective, and is counted.
"""

from .masked import masked_mean, take


def effective_steps(steps, momentum, epochs=1, lr_decay=1.0):
    """|a|: how far the gradients of `steps` steps go, in steps of plain SGD at the first epoch's learning rate."""
    velocity = distance = 0.0
    for epoch in range(epochs):
        n = (epoch + 1) * steps // epochs - epoch * steps // epochs
        # v <- m v + 1, n times over, in closed form: a client may say that it made any number of steps
        powers = momentum * (1 - momentum**n) / (1 - momentum)
        distance += lr_decay**epoch * (velocity * powers + (n - powers) / (1 - momentum))
        velocity = velocity * momentum**n + (1 - momentum**n) / (1 - momentum)
    return distance


def fednova(name, updates, spec, base, effective):
    """The normalised mean: (float64, bool: where a client sent an entry).

    base: the weights w_t from which the clients started; effective: an update -> its |a_k|.
    """

    def change(update):
        start = take(name, base[name], update, spec)
        return (update.values[name].astype(float) - start) / effective(update)

    def examples(update):
        return update.examples

    mean, found = masked_mean(name, updates, spec, change, examples)
    tau, _ = masked_mean(name, updates, spec, effective, examples)
    return base[name] + tau * mean, found
