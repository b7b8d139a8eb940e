"""SCAFFOLD: S. P. Karimireddy, S. Kale, M. Mohri, S. Reddi, S. Stich, A. T. Suresh, "SCAFFOLD: Stochastic Controlled
Averaging for Federated Learning", ICML 2020, algorithm 1 with option II. All clients weigh the same, as there.

    client   y = y - lr (g(y) - c_k + c);   c_k' = c_k - c + (x - y) / (K lr)
    server   x = x + mean_k (y_k - x);      c = c + sum_k (c_k' - c_k) / N

Three things differ where channels close and momentum is used; without either they come to the paper's own.
K lr is how far a steady gradient goes (`adaptive.Moves.distance`), by entry: in the batches that opened its channels,
and with momentum up to 1 / (1 - momentum) times as far. K alone makes variates that much too large: at momentum 0.9 a
gated network then diverges within a few rounds.
A client corrects what a batch opened, like any other movement.
N is by entry, too: the clients that took part and never sent an entry are not counted. Their variates are zero, and by
a mean over all N the few clients that do open it would undo most of what they learn. It makes no difference while
clients open the same channels, as they do on small problems.
"""

import numpy as np
import torch

from fedgate.device_runtime.formats.update import CONTROL

from .masked import place

EVER = "ever/"


@torch.no_grad()
def correct(parameters, drift):
    """Add c - c_k to the gradients of `parameters`, where they have one; drift: c - c_k by name."""
    for name, parameter in parameters.items():
        if parameter.grad is not None and name in drift:
            parameter.grad.add_(drift[name])


def control_change(start, end, control, distance):
    """c_k' - c_k = (x - y) / distance - c by entry, float32; 0 where nothing moved.

    start, end: x and y; control: the server's c; distance: what K lr stands for, broadcast to the tensor.
    """
    distance = np.broadcast_to(np.asarray(distance, np.float64), start.shape)
    mean = np.divide(start.astype(np.float64) - end, distance, out=np.zeros(start.shape), where=distance > 0)
    return np.where(distance > 0, mean - control, 0.0).astype(np.float32)


def server_control(memory, parameters, updates, spec, clients):
    """What the server remembers after a round: of each parameter the sum of the clients' variates and c; and
    "ever/LAYER", bool (clients, C): the channels that each client ever sent, all of those that never took part.

    memory: the same before the round, empty at the start.
    """
    after = {}
    for layer, channels in spec.channels.items():
        ever = memory.get(EVER + layer)
        ever = np.ones((clients, channels), np.uint8) if ever is None else ever.copy()
        new = np.ones(clients, bool) if "seen" not in memory else memory["seen"] == 0
        for update in updates:
            if new[update.client]:
                ever[update.client] = 0
            ever[update.client, update.channels[layer]] = 1
        after[EVER + layer] = ever
    seen = np.zeros(clients, np.uint8) if "seen" not in memory else memory["seen"].copy()
    seen[[update.client for update in updates]] = 1
    after["seen"] = seen
    for name in parameters:
        total = memory.get("variates/" + name, np.zeros(spec.parameters[name], np.float64)).copy()
        for update in updates:
            if name in update.control:
                total += place(name, update.control[name], update, spec)[0]
        after["variates/" + name] = total
        after[CONTROL + name] = (total / np.maximum(1, counted(name, after, spec, clients))).astype(np.float32)
    return after


def counted(name, memory, spec, clients):
    """N of each entry, broadcast to its tensor: the clients but those that took part and never sent its channels."""
    shape, axes = spec.parameters[name], spec.axes[name]
    gated = [(i, layer) for i, layer in enumerate(axes) if layer is not None]
    if not gated:
        return clients
    ever = [
        memory[EVER + layer].astype(np.float64).repeat(shape[i] // spec.channels[layer], axis=1) for i, layer in gated
    ]
    both = ever[0].sum(0) if len(ever) == 1 else ever[0].T @ ever[1]
    kept = [i for i, _ in gated]
    return both.reshape([d if i in kept else 1 for i, d in enumerate(shape)])
