"""What a client tells of the norms of a network that is finished: mean and variance of what each reads on its images.

The images pass batch by batch, with the batch's own statistics as in training. What the server makes of them stands in
`server.norms`.

The blob that a client sends is safetensors: NORM/running_mean and NORM/running_var, float32 (C,), for the norms of the
levels that it trains; metadata {"format": "fedgate-norms", "version": 1, "run": text, "round": int, "client": int,
"examples": int}.
"""

import torch

from fedgate.device_runtime.formats.tensors import pack

from ..data.augment import normalise

FORMAT, VERSION = "fedgate-norms", 1
KINDS = ("running_mean", "running_var")
BATCH = 250  # images at most; even ones, as in training


def norms_of(network, levels):
    """The norms of some levels, and those without one, by the name of their state."""
    return network.free_norms | {
        f"{name}.norms.{level}": unit.norms[level]
        for name, unit in network.units.items()
        if len(unit.norms)
        for level in levels
    }


@torch.no_grad()
def measure(network, images, statistics, levels):
    """What each norm of some levels reads on a client's images: arrays by name, float32 (C,).

    images: uint8 (n, C, H, W); statistics: (mean, std) of the data. Sums are float64. The network is left as it was.
    """
    norms = norms_of(network, levels)
    sums = {name: [0.0, 0.0, 0] for name in norms}
    momenta = {norm: norm.momentum for norm in norms.values()}

    def add(sum_, x):
        x = x.double()
        places = (0, *range(2, x.dim()))
        sum_[0] = sum_[0] + x.sum(places)
        sum_[1] = sum_[1] + x.square().sum(places)
        sum_[2] += x.numel() // x.shape[1]

    hooks = [
        norm.register_forward_pre_hook(lambda _, args, name=name: add(sums[name], args[0]))
        for name, norm in norms.items()
    ]
    network.train()
    for norm in norms.values():
        norm.momentum = 0.0
    for part in torch.tensor_split(images, -(-len(images) // BATCH)):
        x = normalise(part, *statistics).contiguous(memory_format=torch.channels_last)
        for network.level in levels:
            network(x)
    for hook in hooks:
        hook.remove()
    for norm, momentum in momenta.items():
        norm.momentum = momentum
    found = {}
    for name, (first, second, count) in sums.items():
        mean = first / count
        found[f"{name}.running_mean"] = mean.float().cpu().numpy()
        found[f"{name}.running_var"] = (second / count - mean.square()).clamp_min(0).float().cpu().numpy()
    return found


def encode(measured, run, round_, client, examples):
    """The blob that a client sends."""
    meta = {"format": FORMAT, "version": VERSION, "run": run, "round": round_, "client": client, "examples": examples}
    return pack(measured, meta)
