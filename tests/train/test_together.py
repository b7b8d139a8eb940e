"""Clients that train together end where each would have ended by itself."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from small_cnn import PLAN
from torch import nn

from fedgate.train.engines.cohort import reason_against
from fedgate.train.local import client
from fedgate.train.local.client import train_locally
from fedgate.train.local.stack import train_together
from fedgate.train.network.build import gate_network, load_tensors, network_tensors
from fedgate.train.network.models import build
from fedgate.train.network.tails import freeze, trunk

STATISTICS = ((0.4, 0.5, 0.6), (0.2, 0.3, 0.25))


class Odd(nn.Module):
    """What the registered models have not: biases, no norm, sizes read from tensors, views, a flatten, a slice."""

    def __init__(self):
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(3, 8, 3, 1, 1), nn.BatchNorm2d(8)
        self.a, self.b = nn.Conv2d(8, 12, 3, 1, 1), nn.Conv2d(12, 8, 3, 1, 1)
        self.c, self.c_norm = nn.Conv2d(8, 10, 3, 2, 1), nn.BatchNorm2d(10)
        self.hidden, self.head = nn.Linear(10 * 2 * 2, 6), nn.Linear(6, 5, bias=False)

    def forward(self, x):
        x = F.relu(self.stem_norm(self.stem(x)))
        x = F.pad(x + self.b(torch.relu(self.a(x))), (1, 0, 0, 1))[:, :, 1:, ::1]
        x = F.max_pool2d(self.c_norm(self.c(x)), 2)
        x = x.contiguous().view(x.size(0), -1)
        return self.head(torch.relu(self.hidden(x).flatten(1)))


class Loose(Odd):
    """A parameter outside all layers."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(1, 3, 1, 1))

    def forward(self, x):
        return super().forward(x + self.shift)


NETWORKS = {
    "cnn": lambda: build("cnn", 5, (3, 8, 8)),
    "resnet20": lambda: build("resnet20", 5, (3, 8, 8), 0.5),
    "resnet18": lambda: build("resnet18", 5, (3, 8, 8), 0.125),
    "resnet20, hidden": lambda: build("resnet20", 5, (3, 8, 8), 0.5),
    "vgg11": lambda: build("vgg11", 5, (3, 8, 8), 0.125),
    "odd": Odd,
}


def make(name, gate, densities):
    torch.manual_seed(0)
    gated = "hidden" if name.endswith("hidden") else "all"
    network = gate_network(NETWORKS[name](), (3, 8, 8), gate, densities, gated).double()
    for each in network.gates.values():
        nn.init.normal_(each.predictor.weight, std=0.3)
    return network.to(memory_format=torch.channels_last)


@torch.no_grad()
def settle_norms(network, images):
    """Give every norm the statistics of some images, behind gates that do not amplify what differs from them."""
    for gate in network.gates.values():
        gate.predictor.weight.mul_(0.1)
    norms = [norm for unit in network.units.values() for norm in unit.norms]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    network.train()
    for level in range(len(network.densities)):
        network.level = level
        network(client.normalise(images, *STATISTICS).double())
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def examples_of(*counts):
    draw = torch.Generator().manual_seed(3)
    return [
        (torch.randint(256, (n, 3, 8, 8), generator=draw, dtype=torch.uint8), torch.randint(5, (n,), generator=draw))
        for n in counts
    ]


def alone(network, examples, plans):
    start = network_tensors(network)
    found = []
    for each, plan in zip(examples, plans, strict=True):
        result = train_locally(network, *each, STATISTICS, plan)
        found.append((network_tensors(network), result))
        load_tensors(network, start)
    return start, found


@pytest.mark.parametrize(
    ("name", "gate", "densities", "changes"),
    [
        ("cnn", "paper", (0.5,), {}),
        ("cnn", "none", (1.0,), {}),
        ("cnn", "scale", (1.0,), {"momentum": 0.0, "clip_norm": 0.0}),
        ("cnn", "fbs", (0.5,), {"adaptive_gradient": False}),
        ("cnn", "paper", (0.25,), {"algorithm": "fedprox", "proximal_mu": 0.5}),
        ("vgg11", "paper", (0.25, 0.5, 1.0), {"lr_decay": 0.5}),
        ("vgg11", "paper", (0.25, 0.5, 1.0), {"adaptive_gradient": False, "weight_decay": 0.1}),
        ("resnet20", "paper", (0.25, 0.5), {"levels": (1, 0, 0, 1)}),
        ("resnet20", "fbs", (0.25,), {"weight_decay": 0.0}),
        ("resnet20, hidden", "paper", (0.4,), {}),
        ("resnet18", "paper", (0.4,), {"counts": (24, 24, 24, 24)}),
        ("odd", "paper", (0.25, 0.75), {}),
        ("cnn", "paper", (0.2, 0.5, 1.0), {"counts": (20, 70, 9, 33), "epochs": 3}),
        ("resnet20", "paper", (0.5,), {"trainable": "last-stage"}),
        ("vgg11", "paper", (0.25, 0.5, 1.0), {"trainable": "last-stage"}),
        ("cnn", "paper", (0.5,), {"trainable": "head"}),
        # single images, whose last maps are 1x1: no batch norm can train on them
        ("vgg11", "none", (1.0,), {"counts": (1, 7, 3, 1), "batch_size": 2}),
        ("vgg11", "paper", (0.5,), {"counts": (1, 1, 1, 1)}),
        ("vgg11", "paper", (0.25, 0.5, 1.0), {"counts": (1, 7, 3, 20)}),
    ],
)
def test_clients_together_are_the_clients_alone(name, gate, densities, changes, monkeypatch):
    """Weights, statistics, masks, records and losses; clients of several batches and of one, even and ragged."""
    normalise = client.normalise
    monkeypatch.setattr(client, "normalise", lambda *args: normalise(*args).double())
    changes = dict(changes)
    counts, levels = changes.pop("counts", (20, 33, 9, 33)), changes.pop("levels", (None,) * 4)
    trainable = changes.pop("trainable", "all")
    plan = dataclasses.replace(PLAN, densities=densities, epochs=2, batch_size=12, lr=0.02, augment="crop-flip")
    plan = dataclasses.replace(plan, **changes)
    plans = [dataclasses.replace(plan, seed=11 + i, level=level) for i, level in enumerate(levels)]
    network, examples = make(name, gate, densities), examples_of(*counts)
    if trainable != "all":  # whose norms are those of evaluation
        settle_norms(network, examples[1][0])
    freeze(network, trunk(network.layers, trainable))
    start, expected = alone(network, examples, plans)
    assert reason_against(network, plans) is None
    found = train_together(network, examples, STATISTICS, plans)
    for (ours, result), (theirs, wanted) in zip(found, expected, strict=True):
        assert ours.keys() == theirs.keys()
        for tensor, value in theirs.items():
            moved = abs(value - start[tensor]).max()
            assert abs(ours[tensor] - value).max() <= 1e-4 * moved + 1e-7, tensor
            rests = value == start[tensor]
            assert (ours[tensor][rests] == value[rests]).all(), tensor
        assert result.steps == wanted.steps and result.levels == wanted.levels
        assert result.loss == pytest.approx(wanted.loss, rel=1e-5) and result.accuracy == wanted.accuracy
        assert (result.salience.samples == wanted.salience.samples).all()
        for layer, touched in wanted.touched.items():
            assert (result.touched[layer] == touched).all()
            assert (result.salience.opened[layer] == wanted.salience.opened[layer]).all()
            assert result.salience.strength[layer] == pytest.approx(wanted.salience.strength[layer], rel=1e-5)


def test_a_client_does_not_depend_on_its_companions():
    network, examples = make("cnn", "paper", (0.5,)).float(), examples_of(20, 33, 9, 33)
    plans = [dataclasses.replace(PLAN, epochs=1, batch_size=12, seed=i) for i in range(4)]
    before = network_tensors(network)
    four = train_together(network, examples, STATISTICS, plans)
    again = train_together(network, examples, STATISTICS, plans)
    two = train_together(network, examples[1::2], STATISTICS, plans[1::2])
    assert all((network_tensors(network)[name] == value).all() for name, value in before.items())
    for name in before:
        assert all(one[0][name].tobytes() == other[0][name].tobytes() for one, other in zip(four, again, strict=True))
        for one, other in zip(four[1::2], two, strict=True):
            assert abs(one[0][name] - other[0][name]).max() < 1e-4


def test_bf16_learns_what_fp32_learns():
    network, examples = make("cnn", "paper", (0.5,)).float(), examples_of(30, 30)
    plan = dataclasses.replace(PLAN, epochs=8, batch_size=30, lr=0.1)
    loss = {}
    for precision in ("fp32", "bf16"):
        plans = [dataclasses.replace(plan, precision=precision, seed=i) for i in range(2)]
        loss[precision] = [result.loss for _, result in train_together(network, examples, STATISTICS, plans)]
    assert loss["bf16"] == pytest.approx(loss["fp32"], rel=0.15)


def test_why_clients_cannot_train_together():
    plans = [dataclasses.replace(PLAN, seed=i) for i in range(3)]
    network = make("cnn", "paper", (0.5,))
    assert reason_against(network, plans) is None
    assert reason_against(network, [*plans, dataclasses.replace(PLAN, lr=1.0)]) == "the clients' plans differ in lr"
    scaffold = [dataclasses.replace(plan, algorithm="scaffold") for plan in plans]
    assert "SCAFFOLD" in reason_against(network, scaffold)
    dropping = nn.Sequential(NETWORKS["cnn"]().features, nn.Dropout(0.1), nn.Flatten(), nn.Linear(64 * 16, 5))
    gated = gate_network(dropping, (3, 8, 8), "paper", (0.5,))
    assert "drops out at random" in reason_against(gated, plans)
    gated = gate_network(Loose(), (3, 8, 8), "paper", (0.5,))
    assert reason_against(gated, plans) == "'shift' belongs to no layer"
