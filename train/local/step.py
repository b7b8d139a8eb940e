"""One step of local training, as a pure function: of a client's loop, of a stack of clients, of a device's program.

    d = c * gradient + terms + weight_decay * p       c = min(1, clip_norm / (norm of all gradients + 1e-6))
    buffer' = momentum * buffer + d
    p' = p - lr * buffer'

That is SGD as torch.optim.SGD has it, behind `clip_grad_norm_`; terms are what an algorithm adds (FedProx, SCAFFOLD).
An entry that the mask leaves out keeps its value and its buffer (see `adaptive`).
"""

from typing import NamedTuple

import torch


class Rates(NamedTuple):
    """Numbers, tensors of one entry, or (B,): one for each client of a stack. clip_norm 0: gradients as they are."""

    lr: float | torch.Tensor
    momentum: float | torch.Tensor
    weight_decay: float | torch.Tensor
    clip_norm: float | torch.Tensor


def total_norm(gradients):
    """The norm of all gradients of a client: ()."""
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients]))


def norms_by_client(gradients):
    """The norm of all gradients (B, ...) of each client: (B,)."""
    return torch.stack([g.flatten(1).norm(dim=1) for g in gradients]).norm(dim=0)


def step(params, grads, momenta, mask, rates: Rates, norm=total_norm, terms=None):
    """(params, momenta) after a step, by name; the arguments, as of `directions`, stay as they are."""
    found, momenta = directions(params, grads, momenta, mask, rates, norm, terms)
    return params | {name: plus(params[name], d, -rates.lr) for name, d in found.items()}, momenta


def directions(params, grads, momenta, mask, rates: Rates, norm=total_norm, terms=None):
    """(what a step takes lr times from each parameter that has a gradient, momenta after it), by name.

    momenta: the buffers, by name; one that is missing is zero. mask: by name the entries that move, bool, or float32 of
    0 and 1 for runtimes that cannot choose, in a shape that broadcasts to the tensor's; missing or None for all. norm:
    of a list of gradients, what `clip_norm` bounds. terms: clipped gradients by name -> the same with what the
    algorithm adds.
    """
    grads = clipped(grads, rates.clip_norm, norm)
    if terms is not None:
        grads = terms(grads)
    found, buffers = {}, dict(momenta)
    for name, gradient in grads.items():
        moves = mask.get(name)
        d = plus(gradient, params[name], rates.weight_decay)
        if has(rates.momentum):
            old = momenta[name] if name in momenta else torch.zeros_like(d)
            d = buffers[name] = chosen(moves, old * spread(rates.momentum, old) + d, old)
        found[name] = moving(moves, d)
    return found, buffers


def clipped(grads, clip_norm, norm):
    if not grads or not has(clip_norm):
        return grads
    scale = (clip_norm / (norm(list(grads.values())) + 1e-6)).clamp(max=1.0)
    if isinstance(clip_norm, torch.Tensor):
        scale = torch.where(clip_norm > 0, scale, 1.0)
    return {name: gradient * spread(scale, gradient) for name, gradient in grads.items()}


def has(rate):
    """Whether a rate may do something: a tensor is not looked into."""
    return isinstance(rate, torch.Tensor) or rate != 0


def plus(x, y, rate):
    """x + rate * y, rounded once where the rate is a number and the machine can, as PyTorch's optimizers do."""
    if isinstance(rate, torch.Tensor):
        return x + spread(rate, y) * y
    return torch.add(x, y, alpha=rate) if rate else x


def spread(rate, like):
    """A rate of each client in a shape that broadcasts to `like` (B, ...); any other as it is."""
    several = isinstance(rate, torch.Tensor) and rate.ndim == 1 and len(rate) > 1
    return rate.view(-1, *(1,) * (like.ndim - 1)) if several else rate


def chosen(mask, new, old):
    """The entries of `new` that move, those of `old` elsewhere; a float mask for runtimes that cannot choose."""
    if mask is None:
        return new
    return torch.where(mask, new, old) if mask.dtype == torch.bool else old + mask * (new - old)


def moving(mask, d):
    """The entries of `d` that move, 0 elsewhere."""
    if mask is None:
        return d
    return torch.where(mask, d, 0.0) if mask.dtype == torch.bool else mask * d
