"""The modules that take the place of a `ConvUnit` in an exported network. All are made of stock operators."""

import torch
from torch import nn

from .fold import folded_conv, plain_conv, predictor_conv, scale_and_shift
from .masks import earlier, open_channels


class Levels(nn.Module):
    """level, int32 (1,) -> one-hot float32 (1, levels), with which a matrix product reads a row of a table exactly."""

    def __init__(self, levels):
        super().__init__()
        self.register_buffer("index", torch.arange(levels, dtype=torch.int32))

    def forward(self, level):
        return (level.reshape(-1, 1) == self.index).float()


def gate_values(predictor, x, non_negative):
    """g = relu(W mean_HW(|x|) + b): (N, C_in, H, W) -> (N, C_out, 1, 1). |x| is x behind a ReLU."""
    return torch.relu(predictor((x if non_negative else x.abs()).mean((2, 3), keepdim=True)))


class MaskedUnit(nn.Module):
    """A gated unit with the level as an input; every channel is computed, closed ones are multiplied by zero.

    (x, one-hot level) -> (pi * norm_level(conv(x)), open float32 (N, C_out)).
    """

    def __init__(self, unit, densities_k, non_negative, choose):
        super().__init__()
        levels, channels = len(densities_k), unit.conv.out_channels
        self.predictor = predictor_conv(unit.gate)
        self.non_negative, self.choose, self.channels = non_negative, choose, channels
        self.register_buffer("k", torch.tensor(densities_k, dtype=torch.float32)[:, None])
        self.register_buffer("earlier", earlier(channels))
        self.single = levels == 1
        if self.single:
            self.conv = folded_conv(unit, 0)
        else:
            self.conv = plain_conv(unit.conv, unit.conv.weight)
            rows = [torch.cat(scale_and_shift(unit, level)) for level in range(levels)]
            self.register_buffer("affine", torch.stack(rows).float())  # (levels, 2 C_out)

    def forward(self, x, selected):
        g = gate_values(self.predictor, x, self.non_negative)
        if self.choose:
            mask = open_channels(g, selected, self.k, self.earlier).float()
            pi = g * mask[:, :, None, None]
        else:
            mask = torch.ones_like(g[:, :, 0, 0])
            pi = g
        y = self.conv(x)
        if self.single:
            return pi * y, mask
        scale, shift = (selected @ self.affine)[:, :, None, None].split(self.channels, 1)
        return (pi * scale) * y + pi * shift, mask


class LevelUnit(nn.Module):
    """An ungated unit of a network with several levels: (x, one-hot level) -> norm_level(conv(x))."""

    def __init__(self, unit, levels):
        super().__init__()
        self.channels = unit.conv.out_channels
        self.conv = plain_conv(unit.conv, unit.conv.weight)
        rows = [torch.cat(scale_and_shift(unit, level)) for level in range(levels)]
        self.register_buffer("affine", torch.stack(rows).float())

    def forward(self, x, selected):
        scale, shift = (selected @ self.affine)[:, :, None, None].split(self.channels, 1)
        return scale * self.conv(x) + shift


class StaticUnit(nn.Module):
    """A gated unit with fixed masks: the kept channels only, each scaled by its own g; (N, k_in, ..) -> (N, k, ..)."""

    def __init__(self, unit, level, kept_out, kept_in, non_negative):
        super().__init__()
        self.conv = folded_conv(unit, level, kept_out, kept_in)
        self.predictor = predictor_conv(unit.gate, kept_out, kept_in)
        self.non_negative = non_negative

    def forward(self, x):
        return gate_values(self.predictor, x, self.non_negative) * self.conv(x)


class Scatter(nn.Module):
    """Kept channels back to their places among all, zeros elsewhere, as a 1x1 convolution: (N, k, ..) -> (N, C, ..).

    That is k * C MACs a pixel, where leaving the convolution its full width with zero rows costs kernel times k * C.
    """

    def __init__(self, kept, channels):
        super().__init__()
        weight = torch.zeros(channels, len(kept), 1, 1)
        weight[kept, torch.arange(len(kept))] = 1.0
        self.conv = plain_conv(nn.Conv2d(1, 1, 1), weight)

    def forward(self, x):
        return self.conv(x)
