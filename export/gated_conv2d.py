"""The operator of `skip` programs, `fedgate::gated_conv2d`, in PyTorch: its schema, what it computes, and its shapes.

    y = pool(relu(pi * (scale * conv(x) + shift) + residual)),   pi from the gate, or 1 without one

`compute` is the definition, made of stock operators; the kernel that the runtimes load skips what `compute` multiplies
by zero. `fedgate::conv2d` is the same without a gate.
"""

from dataclasses import astuple, dataclass

import torch
import torch.nn.functional as F

from .masks import earlier, open_channels


@dataclass(frozen=True)
class Options:
    """What is fixed about a call. residual_stride: the residual is read at every such row and column;
    residual_offset: the output channel that the residual's channel 0 is added to.
    """

    stride: int = 1
    relu: bool = False
    pool: int = 1
    residual_stride: int = 1
    residual_offset: int = 0


def compute(x, weight, scale, shift, level, in_open, gate_weight, gate_bias, kept, residual, options):
    """x (N, C_in, H, W), weight (C_out, C_in, K, K), scale and shift (levels, C_out), level int32 (1,), in_open uint8
    (N, C_in), gate_weight (C_in, C_out), gate_bias (C_out,), kept int32 (levels,), residual (N, C, H, W) ->
    (y, open uint8 (N, C_out)); open is None without a gate.
    """
    channels = weight.shape[0]
    selected = (level.reshape(-1, 1) == torch.arange(len(scale), dtype=torch.int32)).to(x.dtype)  # (1, levels)
    if in_open is not None:
        x = x * in_open.to(x.dtype)[:, :, None, None]
    y = F.conv2d(x, weight, stride=options.stride, padding=weight.shape[2] // 2)
    y = (selected @ scale)[:, :, None, None] * y + (selected @ shift)[:, :, None, None]
    opened = None
    if gate_weight is not None:
        g = torch.relu(x.abs().mean((2, 3)) @ gate_weight + gate_bias)
        opened = open_channels(g, selected, kept.to(x.dtype)[:, None], earlier(channels))
        y = y * (g * opened.to(x.dtype))[:, :, None, None]
    if residual is not None:
        step, offset = options.residual_stride, options.residual_offset
        if step > 1:
            residual = residual[:, :, ::step, ::step]
        behind = channels - offset - residual.shape[1]
        y = y + (F.pad(residual, (0, 0, 0, 0, offset, behind)) if offset or behind else residual)
    if options.relu:
        y = torch.relu(y)
    if options.pool > 1:
        y = F.max_pool2d(y, options.pool)
    return y, None if opened is None else opened.to(torch.uint8)


def call_operator(x, weight, scale, shift, level, in_open, gate_weight, gate_bias, kept, residual, options):
    """`compute` as one call of the operator; same arguments and results."""
    plain = (x, weight, scale, shift, level, in_open, residual, *astuple(options))
    if gate_weight is None:
        return torch.ops.fedgate.conv2d(*plain), None
    return torch.ops.fedgate.gated_conv2d(*plain, gate_weight, gate_bias, kept)


# The order of the arguments is also that of the kernel's side.
_TENSORS = "Tensor x, Tensor weight, Tensor scale, Tensor shift, Tensor level, Tensor? in_open, Tensor? residual"
_OPTIONS = "int stride, bool relu, int pool, int residual_stride, int residual_offset"
_GATE = "Tensor gate_weight, Tensor gate_bias, Tensor kept"
_library = torch.library.Library("fedgate", "DEF")
_library.define(f"gated_conv2d({_TENSORS}, {_OPTIONS}, {_GATE}) -> (Tensor, Tensor)")
_library.define(
    f"gated_conv2d.out({_TENSORS}, {_OPTIONS}, {_GATE}, *, Tensor(a!) y, Tensor(b!) open) -> (Tensor(a!), Tensor(b!))"
)
_library.define(f"conv2d({_TENSORS}, {_OPTIONS}) -> Tensor")
_library.define(f"conv2d.out({_TENSORS}, {_OPTIONS}, *, Tensor(a!) y) -> Tensor(a!)")


def _gated(x, weight, scale, shift, level, in_open, residual, *rest):
    options, gate = Options(*rest[:5]), rest[5:]
    return compute(x, weight, scale, shift, level, in_open, *gate, residual, options)


def _plain(x, weight, scale, shift, level, in_open, residual, *options):
    return compute(x, weight, scale, shift, level, in_open, None, None, None, residual, Options(*options))[0]


def _gated_out(*arguments, y, open):
    for out, value in zip((y, open), _gated(*arguments), strict=True):
        out.copy_(value)
    return y, open


def _plain_out(*arguments, y):
    return y.copy_(_plain(*arguments))


def output_shape(x, weight, stride, pool):
    """The shape of y; arguments as of `compute` and `Options`."""
    return (x.shape[0], weight.shape[0], *(((side - 1) // stride + 1) // pool for side in x.shape[2:]))


def _fake_plain(x, weight, scale, shift, level, in_open, residual, stride, relu, pool, *_):
    return x.new_empty(output_shape(x, weight, stride, pool))


def _fake_gated(x, weight, *rest):
    return _fake_plain(x, weight, *rest), x.new_empty((x.shape[0], weight.shape[0]), dtype=torch.uint8)


for _name, _function in (
    ("gated_conv2d", _gated),
    ("gated_conv2d.out", _gated_out),
    ("conv2d", _plain),
    ("conv2d.out", _plain_out),
):
    _library.impl(_name, _function, "CompositeExplicitAutograd")
torch.library.register_fake("fedgate::gated_conv2d", _fake_gated, lib=_library)
torch.library.register_fake("fedgate::conv2d", _fake_plain, lib=_library)
