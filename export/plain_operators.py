"""Operators of a backward pass in terms of what XNNPACK has.

What it has not, runtimes run on reference kernels, an entry at a time, and between them XNNPACK's part of a program is
cut in pieces.
"""

import torch

aten = torch.ops.aten


def positive(x):
    """Whether entries are above zero, float32."""
    return x.ceil().clamp(0, 1)


def threshold_backward(gradient, x, threshold):
    """Of ReLU."""
    return gradient * positive(x - threshold if threshold else x)


def expand(x, size, implicit=False):
    """By a product, which broadcasts."""
    shape = torch.broadcast_shapes(x.shape, [1 if side == -1 else side for side in size])
    return aten.alias(x) if shape == x.shape else x * torch.ones(shape, dtype=x.dtype)


class Salience(torch.autograd.Function):
    """The mean of |x| over maps (N, H, W, C): (N, C). Its gradient is spread by a product."""

    @staticmethod
    def forward(x):
        return x.abs().mean((1, 2))

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, ds):
        (x,) = ctx.saved_tensors
        return x.sign() * (ds / (x.shape[1] * x.shape[2]))[:, None, None, :]


# For `make_fx`.
PLAIN = {aten.threshold_backward.default: threshold_backward, aten.expand.default: expand}
