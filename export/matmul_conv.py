"""A convolution whose filter is an input of the program, forward and backward, as matrix products.

Runtimes are fast at convolutions with constant filters only, and have no backward ones that are fast or right. Matrix
products of two inputs they do well, if neither is a plain transpose: LiteRT makes another, slow operator of it. What
costs beside them is the copying that brings each pixel's neighbours together, and a full patch for each pixel is many
copies. So a filter's columns are taken care of before the product and its rows behind it: with C channels,

    A (N H OW, KW C)     each pixel's neighbours along its row
    y = sum over i of (A W_i, moved by i rows)    W_i (KW C, C_out)

Maps are channels-last, (N, H, W, C). A stride of s parts the rows, or columns, in s phases, r, r + s, r + 2 s, ...:
a tap of the filter reads one of them.
"""

from functools import reduce
from operator import add
from typing import NamedTuple

import torch
import torch.nn.functional as F

ROWS, COLUMNS = 1, 2


class Axis(NamedTuple):
    """A convolution along one axis of its maps: output o reads, by tap t, the input o * stride + t * gap - padding."""

    axis: int
    size: int
    taps: int
    stride: int
    padding: int
    gap: int

    @property
    def out(self):
        return (self.size + 2 * self.padding - self.gap * (self.taps - 1) - 1) // self.stride + 1

    @property
    def length(self):
        """Of a phase."""
        return -(-self.size // self.stride)

    @property
    def places(self):
        """For each tap (q, r): output o reads entry o + q of phase r."""
        return [divmod(tap * self.gap - self.padding, self.stride) for tap in range(self.taps)]

    def phases(self, x):
        """The maps x as `stride` maps; zeros stand behind the end."""
        if self.stride == 1:
            return [x]
        x = moved(x, self.axis, 0, self.length * self.stride)
        return list(x.unflatten(self.axis, (self.length, self.stride)).unbind(self.axis + 1))

    def joined(self, phases):
        """The opposite of `phases`; None stands for zeros."""
        if self.stride == 1:
            return phases[0]
        zeros = torch.zeros_like(next(x for x in phases if x is not None))
        phases = [zeros if x is None else x for x in phases]
        x = torch.stack(phases, self.axis + 1).flatten(self.axis, self.axis + 1)
        return x.narrow(self.axis, 0, self.size)

    def gather(self, x):
        """What each tap reads of x, `out` long."""
        phases = self.phases(x)
        return [moved(phases[r], self.axis, q, self.out) for q, r in self.places]

    def scatter_sum(self, parts):
        """The transpose of `gather`: from a part for each tap, `out` long, to maps of the size of x."""
        sums = [[] for _ in range(self.stride)]
        for part, (q, r) in zip(parts, self.places, strict=True):
            sums[r].append(moved(part, self.axis, -q, self.length))
        return self.joined([reduce(add, each) if each else None for each in sums])


def moved(x, axis, start, length):
    """Entries start to start + length of x along an axis, zeros where x has none."""
    before, after = max(-start, 0), max(start + length - x.shape[axis], 0)
    first, count = max(start, 0), max(length - before - after, 0)
    if count == 0:
        return torch.zeros_like(x).narrow(axis, 0, 1).repeat(*(length if i == axis else 1 for i in range(x.dim())))
    if (first, count) != (0, x.shape[axis]):
        x = x.narrow(axis, first, count)
    return F.pad(x, (0, 0) * (x.dim() - 1 - axis) + (before, after)) if before or after else x


class MatmulConv(torch.autograd.Function):
    """(x (N, H, W, C), weight (C_out, C, KH, KW), rows, columns) -> (N, OH, OW, C_out), and A by the phases of rows."""

    @staticmethod
    def forward(x, weight, rows, columns):
        phases = [beside(columns.gather(part)) for part in rows.phases(x)]
        filters = weight.permute(2, 3, 1, 0).flatten(1, 2).unbind()  # (KW C, C_out) for each row of taps
        shape = x.shape[0], rows.length, columns.out, -1
        y = [
            moved((phases[r] @ w).reshape(shape), ROWS, q, rows.out)
            for w, (q, r) in zip(filters, rows.places, strict=True)
        ]
        return reduce(add, y), *phases

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, weight, ctx.rows, ctx.columns = inputs
        ctx.save_for_backward(weight, *output[1:])
        ctx.mark_non_differentiable(*output[1:])

    @staticmethod
    def backward(ctx, dy, *_):
        (weight, *phases), rows, columns = ctx.saved_tensors, ctx.rows, ctx.columns
        _, c_in, _, kw = weight.shape
        dz = [moved(dy, ROWS, -q, rows.length) for q, _ in rows.places]  # of A W_i
        dw = [phases[r].t() @ z.flatten(0, 2) for z, (_, r) in zip(dz, rows.places, strict=True)]
        dw = torch.stack(dw).unflatten(1, (kw, c_in)).permute(3, 2, 0, 1)

        filters = weight.permute(3, 2, 0, 1)  # (KW, KH, C_out, C)
        shape, dx = (*dz[0].shape[:3], c_in), [None] * rows.stride
        for phase in range(rows.stride):
            taps = [i for i, (_, r) in enumerate(rows.places) if r == phase]
            if taps:
                together = beside([dz[i] for i in taps])
                own = filters if rows.stride == 1 else torch.stack([filters[:, i] for i in taps], 1)
                dx[phase] = columns.scatter_sum([(together @ w).reshape(shape) for w in own.flatten(1, 2)])
        return rows.joined(dx), dw, None, None


def beside(maps):
    """Maps (N, H, W, C) as a matrix (N H W, their C), a pixel a row.

    A matrix of its own: a product with maps is done for each row of each of them, by LiteRT.
    """
    return torch.cat([each.flatten(0, 2) for each in maps], 1)


def matmul_conv(x, weight, stride, padding, dilation):
    """The convolution of x (N, H, W, C_in) with weight (C_out, C_in, KH, KW): (N, OH, OW, C_out)."""
    rows, columns = (
        Axis(axis, *numbers)
        for axis, *numbers in zip(
            (ROWS, COLUMNS), x.shape[1:3], weight.shape[2:], stride, padding, dilation, strict=True
        )
    )
    return MatmulConv.apply(x, weight, rows, columns)[0]
