"""Sliced local training: fewer channels are computed, and nothing else is different."""

import dataclasses
import operator

import pytest
import torch
import torch.nn.functional as F
from small_cnn import PLAN
from torch import nn

from fedgate.device_runtime.formats import macs
from fedgate.train.local.client import train_locally
from fedgate.train.local.sliced import LEAST_SAVED, MOST_OPEN, WIDTHS, SlicedForward, computed
from fedgate.train.network.build import build_network, gate_network, network_tensors
from fedgate.train.network.models import build


@pytest.fixture(autouse=True)
def however_small(monkeypatch):
    """Layers leave channels out in networks as small as a test's, too."""
    monkeypatch.setattr("fedgate.train.local.sliced.LEAST_SAVED", 0)


class Odd(nn.Module):
    """What the registered models have not: biases, a convolution without norm, two gated operands of an add, an add
    in place, dropout, a pool of signed values, a view of several positions, channels that are looked at alone."""

    def __init__(self):
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(3, 8, 3, 1, 1), nn.BatchNorm2d(8)
        self.a, self.a_norm = nn.Conv2d(8, 12, 3, 1, 1), nn.BatchNorm2d(12)
        self.b, self.c = nn.Conv2d(12, 16, 3, 2, 1), nn.Conv2d(8, 16, 3, 2, 1)
        self.d, self.d_norm = nn.Conv2d(16, 16, 3, 1, 1), nn.BatchNorm2d(16)
        self.relu, self.pool, self.drop = nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Dropout(0.3)
        self.e = nn.Conv2d(16, 10, 1)
        self.head = nn.Linear(10 * 2 * 2, 4)

    def forward(self, x):
        x = F.relu(self.stem_norm(self.stem(x)))
        y = self.b(self.drop(self.relu(self.a_norm(self.a(x)))))
        x = torch.relu(y + self.c(x))
        x += self.d_norm(self.d(x))
        x = self.e(self.pool(x).relu())
        return self.head(x.contiguous().view(x.size(0), -1)) + x.mean((2, 3))[:, 3:7]


class Reused(nn.Module):
    """Changes the output of a gated layer in place, then reads it again."""

    def __init__(self):
        super().__init__()
        self.stem, self.a, self.b = (nn.Conv2d(c, 8, 3, 1, 1) for c in (3, 8, 8))
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        x = self.stem(x)
        a = self.a(x)
        y = operator.iadd(a, x)
        return self.head((self.b(y) + a).mean((2, 3)))


NETWORKS = {
    "resnet20": lambda: build("resnet20", 10, (3, 8, 8)),
    "resnet18": lambda: build("resnet18", 10, (3, 16, 16), 0.25),  # 1x1 projections
    "resnet18, hidden": lambda: build("resnet18", 10, (3, 16, 16), 0.25),
    "vgg11": lambda: build("vgg11", 10, (3, 16, 16), 0.25),
    "odd": Odd,
    "reused": Reused,
}


def make(name, gate="paper", densities=(0.25,)):
    """A float64 network whose masks differ from input to input, and images for it."""
    torch.manual_seed(0)
    size = 16 if name.startswith(("resnet18", "vgg11")) else 8
    gated = "hidden" if name.endswith("hidden") else "all"
    network = gate_network(NETWORKS[name](), (3, size, size), gate, densities, gated).double()
    for each in network.gates.values():
        nn.init.normal_(each.predictor.weight, std=0.3)
    x = torch.randn(6, 3, size, size, dtype=torch.float64) * torch.rand(6, 3, 1, 1, dtype=torch.float64)
    return network.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)


def assert_close(value, expected, what):
    """Equal but for the order of float64 sums."""
    assert (value - expected).abs().max() <= 1e-9 * expected.abs().max() + 1e-12, what


def one_step(forward, network, x):
    """Logits, masks and gradients of one batch, and the running statistics after it."""
    before = {name: value.clone() for name, value in network.named_buffers()}
    network.zero_grad()
    torch.manual_seed(1)  # dropout
    logits = forward(x)
    (logits.cos().sum() + 1e-2 * sum(gate.pi.sum() + gate.g.sum() for gate in network.gates.values())).backward()
    gradients = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    statistics = {name: value.clone() for name, value in network.named_buffers()}
    with torch.no_grad():
        for name, value in network.named_buffers():
            value.copy_(before[name])
    return logits.detach(), network.open(), gradients, statistics, before


@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("gate", ["paper", "fbs"])
@pytest.mark.parametrize("name", list(NETWORKS))
def test_a_sliced_step_is_the_masked_one(name, gate, level):
    network, x = make(name, gate, (0.25, 0.6))
    network.level = level
    plain = one_step(network, network, x)
    sliced = one_step(SlicedForward(network), network, x)
    assert_close(sliced[0], plain[0], "logits")
    assert torch.equal(sliced[1], plain[1])
    assert sliced[2].keys() == plain[2].keys()
    for parameter, gradient in plain[2].items():
        assert_close(sliced[2][parameter], gradient, parameter)
    for layer, unit in network.units.items():
        for kind in ("running_mean", "running_var") if len(unit.norms) else ():
            statistic = f"body.{layer}.norms.{level}.{kind}"
            opened = slice(None) if unit.gate is None else unit.gate.open.any(0)
            assert_close(sliced[3][statistic][opened], plain[3][statistic][opened], statistic)
            other = f"body.{layer}.norms.{1 - level}.{kind}"
            assert torch.equal(sliced[3][other], sliced[4][other])


def convolved(forward, x, monkeypatch):
    """The multiply-adds of the forward pass, counted at each call of conv2d."""
    counted, conv2d = [], F.conv2d

    def count(x, weight, *args, **kwargs):
        y = conv2d(x, weight, *args, **kwargs)
        counted.append(y[0].numel() * weight[0].numel())
        return y

    with monkeypatch.context() as patch:
        patch.setattr(F, "conv2d", count)  # nn.Conv2d calls it by this name too
        forward(x)
    return sum(counted)


@pytest.mark.parametrize("name", ["resnet18", "vgg11"])
def test_closed_channels_are_not_computed(name, monkeypatch):
    network, x = make(name, densities=(0.5,))
    for gate in network.gates.values():  # the same mask for every input, as trained gates nearly have
        gate.forced = torch.arange(gate.out_channels) % 2 == 0
    computed = convolved(SlicedForward(network), x, monkeypatch)
    nominal = sum(macs.nominal(network.layers, 0.5).values())  # which counts gates and linear layers too
    assert 0.75 * nominal < computed < nominal < convolved(network, x, monkeypatch)


def test_a_layer_that_opens_nothing_passes_zeros_on():
    network, x = make("resnet20")
    for gate in network.gates.values():
        gate.forced = torch.zeros(gate.out_channels, dtype=torch.bool)
    plain, sliced = one_step(network, network, x), one_step(SlicedForward(network), network, x)
    assert_close(sliced[0], plain[0], "logits")
    for parameter, gradient in plain[2].items():
        assert_close(sliced[2][parameter], gradient, parameter)


@pytest.mark.parametrize("levels", [(0.2,), (0.2, 0.5, 1.0)])
def test_local_training_is_the_same_with_and_without(digits, levels):
    """Ten steps of momentum, weight decay, clipping and distillation, in float32."""
    plan = dataclasses.replace(PLAN, epochs=2, densities=levels, lr=0.02, augment="crop")
    trained = []
    for sliced in (True, False):
        torch.manual_seed(0)
        network = build_network("cnn", "paper", levels, 10, (1, 8, 8)).to(memory_format=torch.channels_last)
        for gate in network.gates.values():
            nn.init.normal_(gate.predictor.weight, std=0.1)
        start = network_tensors(network)
        asked = dataclasses.replace(plan, sliced=sliced)
        result = train_locally(
            network, digits.train_images[:160], digits.train_labels[:160], (digits.mean, digits.std), asked
        )
        trained.append((network_tensors(network), result))
    (ours, result), (theirs, expected) = trained
    for name, value in theirs.items():
        moved = abs(value - start[name]).max()
        assert abs(ours[name] - value).max() <= 1e-4 * moved + 1e-9, name
        assert ((ours[name] == start[name]) == (value == start[name])).mean() > 0.999, name
    for layer, touched in expected.touched.items():
        assert (result.touched[layer] == touched).all()
        assert (result.salience.opened[layer] == expected.salience.opened[layer]).all()
    assert result.loss == pytest.approx(expected.loss, rel=1e-4) and result.accuracy == expected.accuracy


@pytest.mark.parametrize("width", [1, 7, 8, 16, 40, 64, 256, 500])
def test_computed_channels_hold_the_open_ones_and_have_a_good_width(width):
    rng = torch.Generator().manual_seed(width)
    for count in range(0, width + 1, max(1, width // 32)):
        opened = torch.zeros(width, dtype=torch.bool)
        opened[torch.randperm(width, generator=rng)[:count]] = True
        rows = computed(opened, LEAST_SAVED)
        step = max(WIDTHS, -(-width // 16))
        wanted = next(n for n in range(step, width + step + 1, step) if n >= count)
        if wanted > MOST_OPEN * width:
            assert rows is None
        else:
            assert len(rows) == wanted == len(set(rows.tolist()))
            assert set(opened.nonzero().flatten().tolist()) <= set(rows.tolist())


def test_a_layer_that_would_save_little_computes_all_its_channels(monkeypatch):
    monkeypatch.setattr("fedgate.train.local.sliced.LEAST_SAVED", LEAST_SAVED)
    opened = torch.arange(64) < 32
    assert computed(opened, LEAST_SAVED // 32) is not None and computed(opened, LEAST_SAVED // 32 - 1) is None
    network, x = make("vgg11", densities=(0.5,))
    with monkeypatch.context() as patch:
        assert convolved(SlicedForward(network), x[:2], patch) == convolved(network, x[:2], patch)
