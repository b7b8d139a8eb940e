"""A convolution whose filter is an input of the program, forward and backward, as matrix products.

Runtimes are fast at convolutions with constant filters only, and have no backward ones that are fast or right. Matrix
products of two inputs they do well. Maps are channels-last here, (N, H, W, C), so that a patch is a run of memory.
"""

import itertools

import torch
import torch.nn.functional as F


def patches(x, kernel, stride, dilation, out, turned=False):
    """The padded maps x (N, H, W, C) as a matrix (N OH OW, KH KW C) of the patches under a kernel.

    turned: of the kernel turned by 180 degrees.
    """
    (kh, kw), (oh, ow) = kernel, out
    shifted = [
        x[:, i * dilation[0] :, j * dilation[1] :][:, : (oh - 1) * stride[0] + 1, : (ow - 1) * stride[1] + 1]
        for i, j in itertools.product(range(kh), range(kw))
    ]
    if turned:
        shifted.reverse()
    if stride != (1, 1):
        shifted = [part[:, :: stride[0], :: stride[1]] for part in shifted]
    return torch.cat(shifted, 3).reshape(-1, kh * kw * x.shape[3])


def spread(y, stride):
    """y (N, H, W, C) with stride - 1 zeros behind each row and column: (N, H s, W s, C)."""
    n, h, w, c = y.shape
    if stride[1] > 1:
        y = y.reshape(n * h * w, 1, c)
        y = torch.cat([y, torch.zeros_like(y).repeat(1, stride[1] - 1, 1)], 1).reshape(n, h, w * stride[1], c)
    if stride[0] > 1:
        y = y.reshape(n * h, 1, -1)
        y = torch.cat([y, torch.zeros_like(y).repeat(1, stride[0] - 1, 1)], 1).reshape(n, h * stride[0], -1, c)
    return y


class MatmulConv(torch.autograd.Function):
    """(x (N, H, W, C_in), weight (C_out, C_in, KH, KW), stride, padding, dilation) -> (N, OH, OW, C_out)."""

    @staticmethod
    def forward(x, weight, stride, padding, dilation):
        c_out, _, kh, kw = weight.shape
        out = tuple(
            (side + 2 * pad - gap * (k - 1) - 1) // step + 1
            for side, pad, gap, k, step in zip(x.shape[1:3], padding, dilation, (kh, kw), stride, strict=True)
        )
        cols = patches(
            F.pad(x, (0, 0, padding[1], padding[1], padding[0], padding[0])), (kh, kw), stride, dilation, out
        )
        y = cols @ weight.permute(0, 2, 3, 1).reshape(c_out, -1).t()
        return y.reshape(x.shape[0], *out, c_out), cols

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, weight, *ctx.geometry = inputs
        ctx.shape = x.shape
        ctx.save_for_backward(weight, output[1])
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def backward(ctx, dy, _):
        weight, cols = ctx.saved_tensors
        stride, padding, dilation = ctx.geometry
        c_out, c_in, kh, kw = weight.shape
        dw = (dy.reshape(-1, c_out).t() @ cols).reshape(c_out, kh, kw, c_in).permute(0, 3, 1, 2)
        # dx[p] = sum over taps t of dy[p + padding - t] W_t: patches of dy under the turned kernel
        dy = spread(dy, stride)
        sides = zip(ctx.shape[1:3], padding, dilation, (kh, kw), dy.shape[1:3], strict=True)
        ends = [(gap * (k - 1) - pad, side + pad - size) for side, pad, gap, k, size in sides]
        dy = F.pad(dy, (0, 0, *ends[1], *ends[0]))
        cols = patches(dy, (kh, kw), (1, 1), dilation, tuple(ctx.shape[1:3]), turned=True)
        dx = cols @ weight.permute(2, 3, 0, 1).reshape(-1, c_in)
        return dx.reshape(ctx.shape), dw, None, None, None


def matmul_conv(x, weight, stride, padding, dilation):
    """The convolution of x (N, H, W, C_in) with weight (C_out, C_in, KH, KW): (N, OH, OW, C_out)."""
    return MatmulConv.apply(x, weight, stride, padding, dilation)[0]
