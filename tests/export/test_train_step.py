"""The tail's training step against local training as `train` does it, and its convolution against PyTorch's."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_networks import CLASSES, SHAPE, small_network
from tail_training import PLAN, Eager, check, train_both, trainable
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from fedgate.device_runtime.errors import UsageError
from fedgate.export.cut import cut_network
from fedgate.export.matmul_conv import matmul_conv
from fedgate.export.plain_operators import PLAIN, Salience, positive
from fedgate.export.tail_forward import max_pool, open_channels
from fedgate.train.network import gates
from fedgate.train.network.build import gate_network, network_tensors
from fedgate.train.network.operations import geometry_of
from fedgate.train.network.trace import trace

STATISTICS = ((0.5,) * 3, (0.25,) * 3)


@pytest.mark.parametrize("kernel,stride", itertools.product((1, 2, 3), (1, 2, 3)))
def test_the_convolution_and_its_gradients_are_pytorchs(kernel, stride):
    for padding, dilation, side in itertools.product((0, 1), (1, 2), (5, 6, 8)):
        x = torch.randn(3, 4, side, side + 1, dtype=torch.float64, requires_grad=True)
        weight = torch.randn(5, 4, kernel, kernel, dtype=torch.float64, requires_grad=True)
        want = F.conv2d(x, weight, None, stride, padding, dilation)
        factor = torch.randn_like(want)
        got = matmul_conv(x.permute(0, 2, 3, 1), weight, (stride,) * 2, (padding,) * 2, (dilation,) * 2)
        got = got.permute(0, 3, 1, 2)
        assert torch.allclose(got, want)
        for ours, theirs in zip(
            *(torch.autograd.grad((y * factor).sum(), (x, weight)) for y in (got, want)), strict=True
        ):
            assert torch.allclose(ours, theirs)


@pytest.mark.parametrize("arguments", [(2,), (3, 2, 1), (2, 1), (3, 1, 0, 2)])
def test_maxima_and_their_gradients_are_pytorchs_also_among_equals(arguments):
    module = nn.MaxPool2d(*arguments)
    (geometry,) = (geometry_of(node) for node in trace(nn.Sequential(module))[0].graph.nodes if geometry_of(node))
    x = torch.randint(0, 3, (2, 3, 7, 8)).double().requires_grad_()
    want, got = module(x), max_pool(x.permute(0, 2, 3, 1), geometry).permute(0, 3, 1, 2)
    factor = torch.randn_like(want)
    assert torch.equal(got, want)
    assert torch.equal(*(torch.autograd.grad((y * factor).sum(), x)[0] for y in (got, want)))


def test_signs_and_ranks_without_comparisons_are_exact():
    least, largest = torch.finfo(torch.float32).smallest_normal, torch.finfo(torch.float32).max
    x = torch.tensor([-largest, -2.5, -1, -least, -0.0, 0, least, 0.3, 1, 2.5, largest])
    assert positive(x).tolist() == (x > 0).float().tolist()
    near = torch.nextafter(torch.tensor(0.3), torch.tensor(1.0)).item()
    draws = torch.tensor([0, least, 2 * least, 0.3, near, 1, 2, largest])
    g = draws[torch.randint(len(draws), (64, 16), generator=torch.Generator().manual_seed(0))]
    for k in range(17):
        assert torch.equal(open_channels(g, torch.tensor(float(k))), gates.open_channels(g, k).float())


def test_operators_are_traced_to_plain_ones_with_the_same_values():
    def gradient(x):
        x = x.detach().requires_grad_()
        y = torch.relu(x).mean((2, 3)) * torch.arange(3) + Salience.apply(x)[:, :1]
        return torch.autograd.grad(y.square().sum(), x)[0]

    x = torch.randint(-2, 3, (2, 3, 4, 3), generator=torch.Generator().manual_seed(0)).float()
    graph = make_fx(gradient, PLAIN)(x)
    assert not {"threshold_backward", "expand"} & {
        getattr(node.target, "__name__", "").split(".")[0] for node in graph.graph.nodes
    }
    assert torch.allclose(graph(x), gradient(x), atol=1e-6)
    s = x.clone().requires_grad_()
    assert torch.equal(Salience.apply(s), s.abs().mean((1, 2)))
    factor = torch.randn(2, 3)
    assert torch.allclose(
        *(torch.autograd.grad((f(s) * factor).sum(), s)[0] for f in (Salience.apply, lambda s: s.abs().mean((1, 2))))
    )


def examples(count=76):
    draw = torch.Generator().manual_seed(1)
    labels = torch.randint(CLASSES, (count,), generator=draw)
    images = torch.randint(256, (count, *SHAPE), generator=draw) * (0.3 + 0.14 * labels[:, None, None, None])
    return images.to(torch.uint8), labels


LONG = pytest.mark.slow
CASES = [
    ("projection of 8", "last-stage", "paper", {}),
    pytest.param("projection of 8", "last-stage", "fbs", {}, marks=LONG),
    pytest.param("projection of 8", "last-stage", "scale", {}, marks=LONG),
    ("projection of 8", "last-stage", "none", {}),
    pytest.param("projection of 8", "head", "paper", {"clip_norm": 0.0}, marks=LONG),
    pytest.param("max pooling", "last-stage", "paper", {"momentum": 0.0}, marks=LONG),
    pytest.param("average pooling", "last-stage", "paper", {"adaptive_gradient": False}, marks=LONG),
    pytest.param("no norm", "last-stage", "paper", {"weight_decay": 0.1}, marks=LONG),
    ("flatten", "head", "paper", {}),
    pytest.param("projection of 8, hidden", "last-stage", "paper", {}, marks=LONG),
    pytest.param("two linear layers", "head", "paper", {}, marks=LONG),
]


@pytest.mark.parametrize("name,part,gate,changes", CASES)
def test_fifty_steps_are_those_of_local_training(name, part, gate, changes, monkeypatch):
    densities = (1.0,) if gate in ("scale", "none") else (0.5,)
    plan = dataclasses.replace(PLAN, densities=densities, **changes)
    compare(small_network(name, densities, gate), part, plan, monkeypatch)


@pytest.mark.parametrize("level", [pytest.param(0, marks=LONG), 1, pytest.param(2, marks=LONG)])
def test_a_level_moves_its_own_norms_alone(level, monkeypatch):
    densities = (0.25, 0.5, 1.0)
    network = small_network("projection of 8", densities)
    after = compare(
        network, "last-stage", dataclasses.replace(PLAN, densities=densities, level=level, seed=6), monkeypatch
    )
    start = network_tensors(network)
    for name, value in after.items():
        if ".norms." in name and not name.startswith("momentum/"):
            assert np.array_equal(value, start[name]) == (f".norms.{level}." not in name), name


def compare(network, part_name, plan, monkeypatch):
    part = trainable(network, part_name, plan.adaptive_gradient)
    start = network_tensors(part.network)
    eager, ours = train_both(part, Eager(part), *examples(), STATISTICS, plan, monkeypatch)
    assert len(ours[1]) == 50
    check(part, eager, ours, start)
    return ours[0]


def test_what_cannot_be_cut_or_trained_is_refused_by_name():
    with pytest.raises(UsageError, match="nothing is left"):
        trainable(small_network("residual", (0.5,)), "last-stage")
    dropping = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 8, 3, 2), nn.Flatten(), nn.Dropout(0.5), nn.Linear(32, CLASSES)
    )
    network = gate_network(dropping, SHAPE)
    assert cut_network(network, "head").node == "_4"
    with pytest.raises(UsageError, match=r"'4' \(dropout\): it is random"):
        Eager(trainable(network, "last-stage"))
