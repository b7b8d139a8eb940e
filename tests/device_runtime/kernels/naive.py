"""The gated convolution as fedgate_kernels.h defines it, in float64 and with no thought of speed."""

from dataclasses import dataclass

import numpy as np


@dataclass
class Result:
    """What one call must give, and by how much float32 may miss it.

    terms: as y, but the three summands of the last step with their magnitudes added up; magnitudes: as y, but with
    every product and sum, from the input on, of magnitudes. A float32 result is off by a few roundings of these.
    """

    y: np.ndarray  # (N, C_out, H', W')
    open: np.ndarray  # (N, C_out), what the gate chooses, also where other masks were forced
    gate: np.ndarray  # (N, C_out)
    macs: int
    terms: np.ndarray
    magnitudes: np.ndarray


def convolve(x, weight, stride):
    """x: (C, H, W); weight: (O, C, K, K), zero padding of K // 2. Returns (O, H', W')."""
    kernel = weight.shape[-1]
    border = (kernel // 2, kernel // 2)
    padded = np.pad(x, ((0, 0), border, border))
    height, width = ((side - 1) // stride + 1 for side in x.shape[1:])
    y = np.zeros((len(weight), height, width))
    for row in range(kernel):
        for column in range(kernel):
            rows = slice(row, row + (height - 1) * stride + 1, stride)
            columns = slice(column, column + (width - 1) * stride + 1, stride)
            y += np.tensordot(weight[:, :, row, column], padded[:, rows, columns], 1)
    return y


def ranks(g):
    """rank_i = #{j: g_j > g_i} + #{j < i: g_j = g_i}"""
    return np.array([np.sum(g > value) + np.sum(g[:i] == value) for i, value in enumerate(g)])


def pooled(y):
    """2x2 maximum at stride 2; a last odd row or column is left out."""
    channels, height, width = y.shape
    y = y[:, : height // 2 * 2, : width // 2 * 2]
    return y.reshape(channels, height // 2, 2, width // 2, 2).max((2, 4))


def gated_conv2d(x, weight, scale, shift, *, stride=1, relu=0, pool=1, nhwc=0, level=0, in_open=None, gate_weight=None,
                 gate_bias=None, kept=None, residual=None, residual_stride=1, residual_offset=0,
                 forced=None):  # fmt: skip
    """Arguments as of `library.Context.prepare`; forced: masks to compute with instead of the gate's own."""
    weight, scale, shift = (array.astype(np.float64) for array in (weight, scale[level], shift[level]))
    out_channels, _, kernel, _ = weight.shape
    results, macs = [], 0
    for n, image in enumerate(x):
        image = image.transpose(2, 0, 1) if nhwc else image
        inputs = np.arange(len(image)) if in_open is None else np.flatnonzero(in_open[n])
        image = image[inputs].astype(np.float64)  # the closed channels are left behind here, whatever they hold
        if gate_weight is None:
            g = gate_magnitude = np.ones(out_channels)
            chosen = np.ones(out_channels, bool)
        else:
            s = np.abs(image).mean((1, 2))
            rows, bias = gate_weight[inputs].astype(np.float64), gate_bias.astype(np.float64)
            g = np.maximum(s @ rows + bias, 0)
            gate_magnitude = s @ np.abs(rows) + np.abs(bias)
            chosen = (ranks(g) < kept[level]) & (g > 0)
            macs += len(inputs) * out_channels
        outputs = np.flatnonzero(chosen if forced is None else forced[n])
        filters = weight[outputs][:, inputs]
        sums = convolve(image, filters, stride)
        macs += len(inputs) * len(outputs) * kernel * kernel * sums[0].size if len(outputs) else 0

        a, b = scale[outputs, None, None], shift[outputs, None, None]
        pi, pi_magnitude = g[outputs, None, None], gate_magnitude[outputs, None, None]
        y = np.zeros((out_channels, *sums.shape[1:]))
        terms, magnitudes = y.copy(), y.copy()
        y[outputs] = pi * (a * sums + b)
        terms[outputs] = np.abs(pi * a * sums) + np.abs(pi * b)
        magnitudes[outputs] = pi_magnitude * (np.abs(a) * convolve(np.abs(image), np.abs(filters), stride) + np.abs(b))
        if residual is not None:
            added = residual[n, :, ::residual_stride, ::residual_stride].astype(np.float64)
            where = slice(residual_offset, residual_offset + len(added))
            y[where] += added
            # to a closed channel's zero it is added without a rounding
            opened = np.isin(np.arange(out_channels), outputs)[where, None, None]
            terms[where] += opened * np.abs(added)
            magnitudes[where] += opened * np.abs(added)
        if relu:
            y = np.maximum(y, 0)
        if pool == 2:
            y, terms, magnitudes = pooled(y), pooled(terms), pooled(magnitudes)
        results.append((y, chosen, g, terms, magnitudes))
    y, chosen, g, terms, magnitudes = map(np.stack, zip(*results, strict=True))
    return Result(y, chosen.astype(np.uint8), g, macs, terms, magnitudes)
