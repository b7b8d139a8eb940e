"""Local training on smaller tensors: channels that no sample of a batch opens are not computed, forward or backward.

A gate decides from its layer's input alone, so what a batch opens is known before the convolution runs. A channel that
is closed for every sample contributes zeros to what follows, and its filter, norm and gate row get a gradient of zero:
leaving it out changes no gradient, only the order of floating-point sums. What it does change is the running
statistics, which a channel that is left out keeps; with the adaptive gradient every closed one does, and only with it
is this used. Which channels are left out follows from shapes and masks alone, so that every run does the same.

The weights stay whole: a layer takes the rows and columns that it needs, and autograd puts the gradients back where
they belong. A narrow result goes to the next layer as it is wherever the operations between them work on each channel
by itself, is added to a whole one in place of its channels, and is widened before anything else.
"""

import math
from typing import NamedTuple

import torch

from ..network.gated_conv import batch_norm, convolve
from ..network.gates import salience
from ..network.graph import reads_by_channel
from ..network.operations import Kind, kind_of, operands, overwrites
from ..network.walk import Walk, plainly

# Operations on each channel by itself that map a channel of zeros to zeros and draw nothing random.
NARROW = (Kind.RELU, Kind.MAX_POOL, Kind.AVG_POOL, Kind.GLOBAL_POOL, Kind.IDENTITY)
# When a layer leaves channels out, by benchmarks/sliced_training.py on a CPU with AVX2. Convolutions are slow
# at odd widths (17 of 32 channels take longer than 24), and oneDNN compiles kernels for every new one, in milliseconds.
WIDTHS = 8  # so it computes a multiple of this, or of a sixteenth of its channels
MOST_OPEN = 0.9  # all, above this share of them: at 0.9 small networks gain nothing, wide ones 15 %
LEAST_SAVED = 500_000  # all, where that saves fewer multiply-adds a batch: gathering weights would cost more


class Narrow(NamedTuple):
    """Some channels of a tensor whose others are zero: value (N, c, ...) holds the `channels` (c,) of `width`."""

    value: torch.Tensor
    channels: torch.Tensor
    width: int


class SlicedForward(Walk):
    """Runs a `GatedNetwork` on open channels alone: images (N, C, H, W) -> logits (N, classes).

    The gates are left with the masks, g and pi of all their channels, as after the network's own forward pass.
    """

    def __init__(self, network):
        super().__init__(network)
        # A value that is changed in place and then read again may not be replaced by another tensor.
        self.refused = any(overwrites(node) and kind_of(node) not in NARROW for node, *_ in self.steps)

    def __call__(self, images):
        gates, level = self.network.gates.values(), self.network.level
        if self.refused or all(gate.k[level] > MOST_OPEN * gate.out_channels for gate in gates):
            return self.network(images)
        return super().__call__(images)

    def call(self, node, module, args, kwargs):
        kind = kind_of(node)
        if kind is Kind.CONV:
            return sliced_unit(module, args[0] if reads_by_channel(node) else whole(args[0]))
        if operands(node):
            return add(*args)
        source = args[0] if args else None
        if isinstance(source, Narrow) and kind in NARROW:
            return source._replace(value=plainly(node, module, (source.value, *args[1:]), kwargs))
        return plainly(node, module, *whole((args, kwargs)))

    def finish(self, value):
        return whole(value)


def sliced_unit(unit, x):
    """What a `ConvUnit` computes, of the channels alone that the batch opens; x and the result may be `Narrow`."""
    inputs = None
    if isinstance(x, Narrow):
        x, inputs = x.value, x
    pi = rows = None
    if unit.gate is not None:
        s = salience(x)
        pi = unit.gate.choose(s if inputs is None else widen(inputs._replace(value=s)), unit.level)
        rows = computed(unit.gate.open.any(0), channel_macs(unit.conv, x))
    conv = unit.conv
    weight = take(conv.weight, rows, None if inputs is None else inputs.channels)
    y = convolve(conv, x, weight, of(conv.bias, rows))
    if len(unit.norms):
        y = sliced_norm(unit.norms[unit.level], y, rows)
    if pi is None:
        return y
    if rows is None:
        return y * pi[:, :, None, None].to(y.dtype)
    return Narrow(y * pi.index_select(1, rows)[:, :, None, None].to(y.dtype), rows, unit.gate.out_channels)


def computed(opened, macs):
    """The channels to compute, int64 (c,): the open ones of `opened`, bool (C,), and closed ones up to a good width.

    macs: multiply-adds of one channel in this batch. None: all C.
    """
    step = max(WIDTHS, -(-len(opened) // 16))
    count = max(1, -(-int(opened.sum()) // step)) * step
    if count > MOST_OPEN * len(opened) or (len(opened) - count) * macs < LEAST_SAVED:
        return None
    return opened.sort(descending=True, stable=True).indices[:count]


def channel_macs(conv, x):
    """Multiply-adds of one output channel of a convolution that reads x (N, C, H, W)."""
    return x.numel() * math.prod(conv.kernel_size) // math.prod(conv.stride)


def sliced_norm(norm, y, rows):
    """A batch norm of the channels `rows` (None: all) alone, their running statistics updated."""
    if rows is None:
        return norm(y)
    mean, var = norm.running_mean[rows], norm.running_var[rows]
    scale, shift = of(norm.weight, rows), of(norm.bias, rows)
    y = batch_norm(y, mean, var, scale, shift, norm.training, norm.momentum, norm.eps)
    if norm.training:
        norm.running_mean[rows], norm.running_var[rows] = mean, var
    return y


def of(vector, rows):
    """The entries `rows` of a vector (None: all of them), or None of None."""
    return vector if vector is None or rows is None else vector.index_select(0, rows)


def take(weight, rows, columns):
    """weight (O, I, kh, kw) -> (rows, columns, kh, kw), channels_last; None: all of that dimension."""
    if rows is None and columns is None:
        return weight
    last = weight.permute(0, 2, 3, 1)  # whole runs of memory, where the weight is channels_last
    if rows is not None:
        last = last.index_select(0, rows)
    if columns is not None:  # as a matrix: many times faster than along the last of four dimensions
        last = last.reshape(-1, last.shape[3]).index_select(1, columns).view(*last.shape[:3], -1)
    return last.permute(0, 3, 1, 2)


def add(a, b):
    """a + b, where either may be `Narrow`."""
    if isinstance(a, Narrow) and not isinstance(b, Narrow):
        a, b = b, a
    fits = isinstance(b, Narrow) and isinstance(a, torch.Tensor) and a.ndim == 4 and a.dtype == b.value.dtype
    if not fits or a.shape != (len(b.value), b.width, *b.value.shape[2:]):
        return whole(a) + whole(b)
    sums = rows_of(a).index_add(1, b.channels, rows_of(b.value))
    return sums.view(len(a), *a.shape[2:], b.width).permute(0, 3, 1, 2)


def widen(narrow):
    """The whole tensor of a `Narrow` one, zeros in the other channels; a map is channels_last, as dropout wants it."""
    value, channels, width = narrow
    flat = rows_of(value)
    zeros = flat.new_zeros(len(flat), width).index_copy(1, channels, flat)
    return zeros if value.ndim == 2 else zeros.view(len(value), *value.shape[2:], width).permute(0, 3, 1, 2)


def rows_of(x):
    """(N, C) as it is, (N, C, H, W) -> (N H W, C): a view where x is channels_last. Indexing is fast along rows."""
    return x if x.ndim == 2 else x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def whole(value):
    """A value of the graph, tuples and dictionaries too, with every `Narrow` tensor widened."""
    if isinstance(value, Narrow):
        return widen(value)
    if isinstance(value, tuple | list):
        return type(value)(map(whole, value))
    return {key: whole(each) for key, each in value.items()} if isinstance(value, dict) else value
