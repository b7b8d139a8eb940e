"""The operator of `skip` programs in ONNX files: `gated_conv2d` and `conv2d` of the domain `fedgate`."""

import dataclasses

import torch

from .gated_conv2d import output_shape


def call_onnx(x, weight, scale, shift, level, in_open, gate_weight, gate_bias, kept, residual, options):
    """`gated_conv2d.compute` as one node that the exporter takes over as it is; what is computed here is zeros."""
    gate = () if gate_weight is None else (gate_weight, gate_bias, kept)
    outputs = [(x.dtype, output_shape(x, weight, options.stride, options.pool))]
    if gate:
        outputs.append((torch.uint8, (x.shape[0], weight.shape[0])))
    dtypes, shapes = zip(*outputs, strict=True)
    y, *opened = torch.onnx.ops.symbolic_multi_out(
        "fedgate::gated_conv2d" if gate else "fedgate::conv2d",
        (x, weight, scale, shift, level, in_open, residual, *gate),
        {name: int(value) for name, value in dataclasses.asdict(options).items()},
        dtypes=dtypes,
        shapes=shapes,
        version=1,
    )
    return y, opened[0] if opened else None
