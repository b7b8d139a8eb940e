"""The one building block of every network: a convolution, its norms (one for each level) and its gate.

    y = pi * norm_level(conv(x))

The residual add and the ReLU that may follow are left to the network's graph.
"""

import copy

import torch
import torch.nn.functional as F
from torch import nn

from .gates import Gate


class ConvUnit(nn.Module):
    """Takes the place of a convolution and the norm behind it in a network's graph.

    norms is empty where the convolution had none; gate is None for a layer that always computes all its channels (a
    stem, a projection shortcut, every layer of a dense network).
    """

    def __init__(self, conv: nn.Conv2d, norms, gate: Gate | None):
        super().__init__()
        self.conv = conv
        self.norms = nn.ModuleList(norms)
        self.gate = gate
        self.level = 0

    def forward(self, x):
        """x (N, C_in, H, W) -> (N, C_out, H', W')."""
        y = self.conv(x)
        if len(self.norms):
            y = self.norms[self.level](y)
        if self.gate is None:
            return y
        return y * self.gate(x, self.level)[:, :, None, None].to(y.dtype)


def convolve(conv, x, weight, bias, networks=1):
    """What a convolution computes with other weights, and so perhaps other channels.

    networks: how many networks' channels lie one behind the other, in x as in weight and bias.
    """
    return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups * networks)


def make_unit(conv, norm, gate_kind, densities, gated):
    """Build a unit from a convolution and its norm (or None): one norm a level, each starting as a copy."""
    norms = [] if norm is None else [LevelNorm.like(norm, scale=gate_kind != "fbs" or not gated) for _ in densities]
    gate = Gate(conv.in_channels, conv.out_channels, densities, gate_kind) if gated else None
    return ConvUnit(copy.deepcopy(conv), norms, gate)


def is_single(x):
    """Whether x (N, C, ...) has one value a channel: one has no variance, so no norm can train on it."""
    return x.numel() == x.shape[1]


def batch_norm(x, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    """`F.batch_norm`; a batch of a single value a channel is normalised by the running statistics, and leaves them."""
    training = training and not (is_single(x) and running_mean is not None)
    return F.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)


class LevelNorm(nn.BatchNorm2d):
    """Batch norm without the step counter (a run counts rounds), and, for FBS gates, without a scale.

    What `batch_norm` says of a single value holds here too: the last maps of small images are 1x1.
    Layout of its state: weight, bias, running_mean, running_var, each (C,).
    """

    @classmethod
    def like(cls, norm, scale=True):
        new = cls(norm.num_features, eps=norm.eps, momentum=norm.momentum or 0.1, affine=norm.affine)
        new.load_state_dict(norm.state_dict(), strict=False)
        new.num_batches_tracked = None  # drops the buffer from the state
        if not scale:
            with torch.no_grad():
                new.weight.fill_(1.0)
            new.weight.requires_grad_(False)
        return new

    def forward(self, x):
        if self.training and is_single(x):
            return batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, True, 0.0, self.eps)
        return super().forward(x)


class FreeNorm(LevelNorm):
    """A batch norm that belongs to no convolution: in front of one, behind a linear layer; x (N, C, ...)."""

    def _check_input_dim(self, input):
        pass
