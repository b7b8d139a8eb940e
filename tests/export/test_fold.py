"""Folding against eager units in float64: the norm of each level, with and without the convolution's own bias."""

import pytest
import torch
from small_networks import NETWORKS, random_images, small_network
from torch import nn

from fedgate.export.fold import folded_conv, predictor_conv, scale_and_shift
from fedgate.train.network.gated_conv import make_unit

LEVELS = (0.3, 0.6, 1.0)


def random_unit(bias, norm, seed=0):
    """A gated unit of 5 -> 7 channels in float64 with three levels."""
    torch.manual_seed(seed)
    conv = nn.Conv2d(5, 7, 3, 2, 1, dilation=2, bias=bias)
    unit = make_unit(conv, nn.BatchNorm2d(7, eps=0.01) if norm else None, "paper", LEVELS, gated=True)
    with torch.no_grad():
        for item in unit.norms:
            for tensor in (item.weight, item.bias, item.running_mean):
                tensor.normal_()
            item.running_var.uniform_(0.1, 4.0)
        unit.gate.predictor.weight.normal_()
    return unit.double().eval()


def plain(unit, level, x):
    """norm_level(conv(x)), without the gate."""
    y = unit.conv(x)
    return unit.norms[level](y) if len(unit.norms) else y


def assert_close(mine, right):
    assert (mine - right).abs().max() <= 1e-12 * right.abs().max()


X = torch.randn(4, 5, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("level", range(3))
@pytest.mark.parametrize("bias,norm", [(False, True), (True, True), (True, False), (False, False)])
@torch.no_grad()
def test_scale_and_shift_are_the_norm(bias, norm, level):
    unit = random_unit(bias, norm)
    scale, shift = scale_and_shift(unit, level)
    assert scale.dtype == shift.dtype == torch.float64
    bare = nn.functional.conv2d(X, unit.conv.weight, None, 2, 1, 2)
    assert_close(bare * scale[:, None, None] + shift[:, None, None], plain(unit, level, X))


@pytest.mark.parametrize("level", range(3))
@pytest.mark.parametrize("bias,norm", [(False, True), (True, True), (True, False), (False, False)])
@torch.no_grad()
def test_a_folded_convolution_is_convolution_and_norm(bias, norm, level):
    unit = random_unit(bias, norm)
    folded = folded_conv(unit, level)
    assert folded.weight.dtype == torch.float32  # what a program holds: rounded once, at the end
    right = plain(unit, level, X)
    assert (folded.double()(X) - right).abs().max() <= 1e-6 * right.abs().max()
    kept_out, kept_in = torch.tensor([0, 3, 6]), torch.tensor([1, 4])
    only = torch.zeros_like(X)
    only[:, kept_in] = X[:, kept_in]
    narrow = folded_conv(unit, level, kept_out, kept_in).double()(X[:, kept_in])
    right = plain(unit, level, only)[:, kept_out]
    assert (narrow - right).abs().max() <= 1e-6 * right.abs().max()


@torch.no_grad()
def test_a_folded_predictor_is_the_predictor():
    gate = random_unit(False, True).gate
    s = X.abs().mean((2, 3))
    assert torch.equal(predictor_conv(gate).weight[:, :, 0, 0].double(), gate.predictor.weight.float().double())
    mine = predictor_conv(gate).double()(s[:, :, None, None])[:, :, 0, 0]
    assert (mine - gate.predictor(s)).abs().max() < 1e-6
    narrow = predictor_conv(gate, torch.tensor([2, 5]), torch.tensor([0, 3])).double()
    only = torch.zeros_like(s)
    only[:, [0, 3]] = s[:, [0, 3]]
    mine = narrow(s[:, [0, 3], None, None])[:, :, 0, 0]
    assert (mine - gate.predictor(only)[:, [2, 5]]).abs().max() < 1e-6


@torch.no_grad()
def test_folding_leaves_the_network_as_it_was():
    from fedgate.export.eval_networks import dense_network, masked_network, static_network

    for name in NETWORKS:
        network = small_network(name, LEVELS)
        before, logits = {k: v.clone() for k, v in network.state_dict().items()}, network(random_images())
        kept = {name: torch.arange(gate.k[0]).numpy() for name, gate in network.gates.items()}
        dense_network(network), masked_network(network), static_network(network, 0, kept)
        after = network.state_dict()
        assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)
        assert torch.equal(network(random_images()), logits)
