"""Gated networks: counts against PyTorch's own counter, equality with the plain network, and what is refused."""

import operator

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fedgate.device_runtime.errors import FedgateError, UsageError
from fedgate.device_runtime.formats import macs
from fedgate.train.network.build import build_network, gate_network, load_tensors, network_tensors
from fedgate.train.network.gated_conv import convolve
from fedgate.train.network.graph import reads_by_channel
from fedgate.train.network.models import MODELS, build
from fedgate.train.network.trace import trace

SHAPES = dict.fromkeys(MODELS, (3, 32, 32)) | {"cnn": (1, 8, 8)}
CASES = [*SHAPES.items(), ("resnet18", (3, 224, 224))]


@pytest.mark.parametrize(("model", "shape"), CASES)
def test_macs_equal_those_of_the_flop_counter(model, shape):
    network = build_network(model, "none", (1.0,), 10, shape)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.zeros(1, *shape))
    counts = macs.dense(network.layers)
    flops = counter.get_flop_counts()
    for name, count in counts.items():
        unit = f"{name}.conv" if name in network.units else name
        (found,) = [key for key in flops if key.endswith(f".{unit}")]
        assert sum(flops[found].values()) == 2 * count, name
    assert counter.get_total_flops() == 2 * sum(counts.values())


def test_resnet32_has_the_published_size_and_cuts():
    plain = build_network("resnet32", "none", (1.0,), 10, (3, 32, 32))
    assert sum(p.numel() for p in plain.parameters()) == 464_154
    gated = build_network("resnet32", "paper", (0.7,), 10, (3, 32, 32))
    dense = sum(macs.dense(gated.layers).values())
    cuts = {density: 1 - sum(macs.nominal(gated.layers, density).values()) / dense for density in (0.7, 0.61)}
    assert cuts[0.7] == pytest.approx(0.414, abs=5e-4)
    assert cuts[0.61] == pytest.approx(0.50, abs=5e-3)


@pytest.mark.parametrize("model", list(MODELS))
def test_all_convolutions_are_gated_but_stems_and_projections(model):
    network = build_network(model, "paper", (0.5,), 10, SHAPES[model])
    ungated = {name for name, unit in network.units.items() if unit.gate is None}
    stem = next(iter(network.units))
    projections = {name for name in network.units if "shortcut" in name}
    assert ungated == {stem} | projections
    assert len(projections) == (3 if model == "resnet18" else 0)
    by_name = {layer.name: layer for layer in network.layers}
    for name, layer in by_name.items():
        if name.endswith("conv2"):
            assert layer.input_gate == name.replace("conv2", "conv1")
        if name.endswith("conv1"):
            assert layer.input_gate is None  # reads the residual stream


@pytest.mark.parametrize("model", list(MODELS))
def test_hidden_gates_leave_residual_streams_whole(model):
    network = build_network(model, "paper", (0.5,), 10, SHAPES[model], gated="hidden")
    everywhere = build_network(model, "paper", (0.5,), 10, SHAPES[model])
    blocks = any(name.endswith("conv2") for name in network.units)
    assert list(network.gates) == [name for name in everywhere.gates if name.endswith("conv1") or not blocks]
    share = macs.total(macs.nominal(network.layers, 0.5)) / macs.total(macs.dense(network.layers))
    assert not blocks or share == pytest.approx(0.5, abs=0.03)  # both convolutions of a block cost the density


@pytest.mark.parametrize("model", list(MODELS))
def test_a_network_without_gates_is_the_plain_one(model):
    torch.manual_seed(3)
    plain = build(model, 10, SHAPES[model])
    network = gate_network(plain, SHAPES[model], "none", (1.0,))
    x = torch.randn(2, *SHAPES[model])
    plain.train(), network.train()
    assert torch.equal(plain(x), network(x))
    plain.eval(), network.eval()
    assert torch.equal(plain(x), network(x))


def test_gated_and_plain_networks_start_from_the_same_weights():
    torch.manual_seed(1)
    plain = network_tensors(build_network("resnet20", "none", (1.0,), 10, (3, 32, 32)))
    torch.manual_seed(1)
    gated = network_tensors(build_network("resnet20", "paper", (0.5,), 10, (3, 32, 32)))
    assert all((gated[name] == value).all() for name, value in plain.items())


def test_width_scales_every_channel_count():
    slim = build_network("resnet32", "none", (1.0,), 10, (3, 32, 32), width=0.5)
    assert sorted({layer.out_channels for layer in slim.layers}) == [8, 10, 16, 32]


@pytest.mark.parametrize("model", ["resnet20", "resnet18"])
def test_hidden_width_narrows_blocks_and_leaves_their_streams(model):
    whole = build_network(model, "none", (1.0,), 10, SHAPES[model]).layers
    narrow = build_network(model, "none", (1.0,), 10, SHAPES[model], hidden_width=0.25).layers
    for layer, other in zip(whole, narrow, strict=True):
        assert other.out_channels == layer.out_channels // (4 if layer.name.endswith("conv1") else 1)
    with pytest.raises(UsageError, match="--hidden-width is of networks with residual blocks"):
        build_network("vgg11", "none", (1.0,), 10, SHAPES["vgg11"], hidden_width=0.25)


class Residual(nn.Module):
    """A user's network: a bias, no norm behind one convolution, a flatten of several positions, methods."""

    def __init__(self):
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(3, 8, 3, 1, 1), nn.BatchNorm2d(8)
        self.a, self.a_norm = nn.Conv2d(8, 6, 3, 2, 1), nn.BatchNorm2d(6)
        self.b = nn.Conv2d(6, 12, 3, 1, 1)
        self.side, self.side_norm = nn.Conv2d(8, 12, 1, 2), nn.BatchNorm2d(12)
        self.c, self.c_norm = nn.Conv2d(12, 5, 3, 1, 1), nn.BatchNorm2d(5)
        self.pool, self.head = nn.MaxPool2d(2), nn.Linear(5 * 2 * 2, 4)

    def forward(self, x):
        x = F.relu(self.stem_norm(self.stem(x)))
        y = self.b(F.relu(self.a_norm(self.a(x))))
        x = torch.relu(y + self.side_norm(self.side(x)))
        x = self.pool(self.c_norm(self.c(x)).relu())
        return self.head(x.flatten(1))


def test_a_users_network_is_gated_where_it_should_be():
    module = Residual()
    network = gate_network(module, (3, 8, 8), "paper", (0.5,))
    described = {layer.name: (layer.gate, layer.input_gate) for layer in network.layers}
    assert described == {
        "stem": (False, None),
        "a": (True, None),
        "b": (True, "a"),
        "side": (False, None),
        "c": (True, None),
        "head": (False, "c"),
    }
    hidden = gate_network(module, (3, 8, 8), "paper", (0.5,), gated="hidden")
    assert list(hidden.gates) == ["a", "c"]  # b goes into the add
    with pytest.raises(UsageError, match="'most'; known: all, hidden"):
        gate_network(module, (3, 8, 8), gated="most")
    assert network(torch.randn(2, 3, 8, 8)).shape == (2, 4)
    assert network.open().shape == (2, 6 + 12 + 5)
    assert isinstance(module.a, nn.Conv2d)  # the user's module is left as it was


def block(*layers):
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), *layers)


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.twice = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        return self.twice(torch.relu(self.twice(torch.relu(self.stem(x)))))


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (block(nn.Conv2d(8, 8, 3), nn.GELU()), "cannot gate layer '4': a GELU is not"),
        (block(nn.Conv2d(8, 8, 3), nn.GroupNorm(2, 8)), "cannot gate layer '4': a GroupNorm is not"),
        (block(nn.Conv2d(8, 8, 3, groups=8)), "cannot gate layer '3': Conv2d with groups=8"),
        (block(nn.ConvTranspose2d(8, 8, 3)), "cannot gate layer '3': a ConvTranspose2d is not"),
        (block(nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect")), "cannot gate layer '3': .*'reflect'"),
        (block(nn.ReLU(), nn.BatchNorm2d(8)), "cannot gate layer '4': a norm must follow a convolution"),
        (block(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8, affine=False)), "cannot gate layer '4': .*without scale"),
        (block(), "no convolution to gate"),
        (block(nn.Conv2d(9, 8, 3)), "does not fit images of 3x8x8"),
        (Shared(), "cannot gate layer 'twice': it is used more than once"),
        (Branching(), "cannot be traced"),
    ],
)
def test_what_cannot_be_gated_is_refused_by_name(module, words):
    with pytest.raises(UsageError, match=words):
        gate_network(module, (3, 8, 8))


def test_a_function_that_moves_channels_is_refused():
    class Sigmoid(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = block(nn.Conv2d(8, 8, 3))

        def forward(self, x):
            return torch.sigmoid(self.body(x))

    with pytest.raises(UsageError, match="cannot gate around the function 'sigmoid'"):
        gate_network(Sigmoid(), (3, 8, 8))


def test_an_add_counts_as_a_dense_input():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.one, self.two = (nn.Conv2d(c, 8, 3, padding=1) for c in (3, 8, 8))

        def forward(self, x):
            x = torch.relu(self.stem(x))
            return self.two(operator.add(torch.relu(self.one(x)), x)).mean((2, 3))

    network = gate_network(Sum(), (3, 8, 8))
    assert [layer.input_gate for layer in network.layers] == [None, None, None]


def test_tensors_round_trip_and_others_are_refused():
    network, other = (build_network("cnn", "paper", (0.5, 1.0), 10, (1, 8, 8)) for _ in range(2))
    load_tensors(other, network_tensors(network))
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(network.eval()(x), other.eval()(x))
    with pytest.raises(FedgateError, match="another network"):
        load_tensors(build_network("cnn", "paper", (0.5,), 10, (1, 8, 8)), network_tensors(network))


def test_every_level_has_norms_of_its_own():
    network = build_network("cnn", "paper", (0.25, 1.0), 10, (1, 8, 8))
    before = network_tensors(network)
    network.train()
    network.level = 0
    network(torch.rand(4, 1, 8, 8))
    changed = {name for name, value in network_tensors(network).items() if (value != before[name]).any()}
    assert changed and all(".norms.0.running" in name for name in changed)


def test_fbs_norms_have_no_scale_and_its_gates_a_penalty():
    network = build_network("cnn", "fbs", (0.5,), 10, (1, 8, 8))
    for name, unit in network.units.items():
        assert unit.norms[0].weight.requires_grad == (name not in network.gates)
    network(torch.rand(2, 1, 8, 8))
    expected = 1e-8 * sum(gate.g.sum().item() for gate in network.gates.values())
    assert network.penalty().item() == pytest.approx(expected, rel=1e-5) and expected > 0
    assert build_network("cnn", "paper", (0.5,), 10, (1, 8, 8)).penalty() == 0.0


def test_layers_alone_read_by_channel_and_none_with_groups():
    layers = (nn.Conv2d(4, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 8, 1, groups=2), nn.Conv2d(8, 6, 1))
    network = nn.Sequential(*layers, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))
    traced, _ = trace(network, False)
    assert [node.target for node in traced.graph.nodes if reads_by_channel(node)] == ["0", "3", "7"]


def test_networks_side_by_side_keep_their_groups():
    convs, images = [nn.Conv2d(8, 12, 3, 2, 1, groups=4) for _ in range(3)], torch.randn(3, 5, 8, 9, 9)
    weight, bias = (torch.cat([getattr(conv, part) for conv in convs]) for part in ("weight", "bias"))
    found = convolve(convs[0], torch.cat(list(images), 1), weight, bias, 3)
    expected = torch.cat([conv(x) for conv, x in zip(convs, images, strict=True)], 1)
    torch.testing.assert_close(found, expected)
