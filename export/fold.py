"""Folding: a unit's norms become, for each level, a scale and a shift behind its convolution, or vanish into it."""

import copy

import torch
from torch import nn


@torch.no_grad()
def scale_and_shift(unit, level):
    """The affine map that stands for a unit's norm and convolution bias at a level: (scale, shift), float64 (C_out,).

    norm(conv(x) + bias) = scale * conv(x) + shift, conv without its bias.
    """
    channels = unit.conv.out_channels
    bias = torch.zeros(channels) if unit.conv.bias is None else unit.conv.bias.detach()
    if not len(unit.norms):
        return torch.ones(channels, dtype=torch.float64), bias.double()
    norm = unit.norms[level]
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    return scale, norm.bias.double() + scale * (bias.double() - norm.running_mean.double())


@torch.no_grad()
def plain_conv(conv, weight, bias=None):
    """A copy of a convolution with other weights (and so other channels), with a bias or none; float32."""
    new = nn.Conv2d(
        weight.shape[1] * conv.groups,
        weight.shape[0],
        conv.kernel_size,
        conv.stride,
        conv.padding,
        conv.dilation,
        conv.groups,
        bias=bias is not None,
        padding_mode=conv.padding_mode,
    )
    new.weight.copy_(weight)
    if bias is not None:
        new.bias.copy_(bias)
    return new


@torch.no_grad()
def folded_conv(unit, level, kept_out=None, kept_in=None):
    """One convolution that computes a unit's norm(conv(x)) at a level, for the kept channels only (all by default)."""
    scale, shift = scale_and_shift(unit, level)
    weight = unit.conv.weight.double() * scale[:, None, None, None]
    if kept_out is not None:
        weight, shift = weight[kept_out], shift[kept_out]
    if kept_in is not None:
        weight = weight[:, kept_in]
    return plain_conv(unit.conv, weight, shift)


@torch.no_grad()
def predictor_conv(gate, kept_out=None, kept_in=None):
    """A gate's predictor as a 1x1 convolution, which works on (N, C, 1, 1) as means over H, W come."""
    weight, bias = gate.predictor.weight, gate.predictor.bias
    if kept_out is not None:
        weight, bias = weight[kept_out], bias[kept_out]
    if kept_in is not None:
        weight = weight[:, kept_in]
    return plain_conv(nn.Conv2d(1, 1, 1), weight[:, :, None, None], bias)


def copy_body(network):
    """A copy of a gated network's graph module in evaluation mode, free to be rewritten."""
    network.forget()
    return copy.deepcopy(network.body).eval()
