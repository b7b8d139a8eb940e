"""Every spelling of an operation, as a module, a function or a method, is trained and exported as the others are."""

import copy
import functools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_networks import CLASSES, SHAPE, random_images
from tail_training import trainable
from torch import nn

from fedgate.export.eval_networks import dense_network, masked_network, static_network
from fedgate.export.reference import EagerReference, fixed_masks
from fedgate.export.skip import kernel_layers, skip_network
from fedgate.export.tail_plans import step_of, train_plan
from fedgate.export.train_step import traced
from fedgate.train.local.client import LocalPlan, train_locally
from fedgate.train.local.stack import train_together
from fedgate.train.network.build import gate_network, network_tensors
from fedgate.train.network.operations import MODULES, Kind, kind_of

PLAN = LocalPlan((0.5,), epochs=1, batch_size=8, lr=0.05, seed=1, level=0)
STATISTICS = ((0.5,) * 3, (0.25,) * 3)
# Of each kind its spellings, the first with modules where there are any; a module is made by the network that calls it.
SPELLINGS = {
    Kind.RELU: (
        nn.ReLU(), nn.ReLU(inplace=True), F.relu, lambda x: F.relu(input=x), lambda x: F.relu(x, True), torch.relu,
        lambda x: x.relu(), lambda x: x.relu_(), torch.relu_, F.relu_,
    ),
    Kind.MAX_POOL: (
        nn.MaxPool2d(2), nn.MaxPool2d((2, 2), (2, 2)), lambda x: F.max_pool2d(x, 2),
        lambda x: F.max_pool2d(input=x, kernel_size=(2, 2), stride=2), lambda x: torch.max_pool2d(x, [2]),
        lambda x: torch.max_pool2d(x, 2, 2),
    ),
    Kind.INDEXED_POOL: (
        nn.MaxPool2d(2, return_indices=True), lambda x: F.max_pool2d(x, 2, return_indices=True),
        lambda x: F.max_pool2d_with_indices(x, 2),
    ),
    Kind.AVG_POOL: (
        nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(2), lambda x: F.avg_pool2d(x, 2),
        lambda x: F.avg_pool2d(input=x, kernel_size=2), lambda x: F.adaptive_avg_pool2d(x, (2, 2)),
    ),
    Kind.GLOBAL_POOL: (
        lambda x: x.mean((2, 3)), lambda x: x.mean(dim=[3, 2]), lambda x: x.mean(axis=(-1, -2)),
        lambda x: torch.mean(x, (2, 3)), lambda x: torch.mean(input=x, dim=(2, 3)),
    ),
    Kind.FLATTEN: (
        nn.Flatten(), lambda x: torch.flatten(x, 1), lambda x: torch.flatten(input=x, start_dim=1),
        lambda x: x.flatten(1), lambda x: x.view(x.size(0), -1), lambda x: x.reshape(x.shape[0], -1),
        lambda x: torch.reshape(x, (x.size(0), -1)),
    ),
    Kind.IDENTITY: (nn.Identity(), lambda x: x.contiguous(), lambda x: x),
    Kind.DROPOUT: (
        nn.Dropout(0.0), nn.Dropout2d(0.0), lambda x: F.dropout(x, 0.0), lambda x: torch.dropout(x, 0.0, False),
    ),
    Kind.ADD: (
        lambda x, y: x + y, torch.add, lambda x, y: torch.add(x, other=y), lambda x, y: torch.add(input=x, other=y),
        lambda x, y: x.add(y), lambda x, y: y.add_(x), lambda x, y: torch.add(x, y, alpha=1),
    ),
    Kind.CONCAT: (
        lambda x, y: torch.cat([x, y], 1), lambda x, y: torch.cat(tensors=(x, y), dim=1),
        lambda x, y: torch.concat((x, y), dim=1), lambda x, y: torch.concatenate([x, y], axis=1),
    ),
    Kind.PAD: (
        nn.ZeroPad2d(1), nn.ConstantPad2d(1, 0.0), lambda x: F.pad(x, (1, 1, 1, 1)),
        lambda x: F.pad(input=x, pad=[1] * 4),
    ),
}  # fmt: skip
KINDS = list(SPELLINGS)


class Net(nn.Module):
    """All kinds of operations, each as `chosen` spells it; of two ends, flattened maps and means, as `flat` says."""

    def __init__(self, chosen, flat):
        super().__init__()
        self.flat, self.how = flat, chosen
        self.modules_of = nn.ModuleDict(
            {k.name: copy.deepcopy(v) for k, v in chosen.items() if isinstance(v, nn.Module)}
        )
        self.stem, self.stem_norm = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.one, self.one_norm = nn.Conv2d(6, 8, 3, padding="same"), nn.BatchNorm2d(8)
        self.two, self.two_norm = nn.Conv2d(8, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.three, self.four = nn.Conv2d(6, 8, 1), nn.Conv2d(14, 8, 3, padding="valid")
        self.head = nn.Linear(32 if flat else 8, CLASSES)

    def forward(self, x):
        def do(kind, *values):
            module = self.modules_of[kind.name] if kind.name in self.modules_of else self.how[kind]
            return module(*values)

        relu = functools.partial(do, Kind.RELU)
        x = relu(self.stem_norm(self.stem(x)))
        y = do(Kind.IDENTITY, relu(self.one_norm(self.one(x))))
        x = do(Kind.MAX_POOL, relu(do(Kind.ADD, x, self.two_norm(self.two(y)))))  # 8x8 -> 4x4
        y = do(Kind.DROPOUT, relu(self.three(x)))
        x = do(Kind.PAD, do(Kind.CONCAT, x, y))  # 6x6
        x = do(Kind.INDEXED_POOL, relu(self.four(x)))[0] if self.flat else do(Kind.AVG_POOL, relu(self.four(x)))  # 2x2
        return self.head(do(Kind.FLATTEN if self.flat else Kind.GLOBAL_POOL, x))


FIRST = {kind: spellings[0] for kind, spellings in SPELLINGS.items()}
CASES = [(kind, i) for kind in KINDS for i in range(1, len(SPELLINGS[kind]))]


def network_of(chosen, flat):
    torch.manual_seed(0)
    return gate_network(Net(FIRST | chosen, flat), SHAPE)


def examples():
    draw = torch.Generator().manual_seed(0)
    return torch.randint(256, (8, *SHAPE), dtype=torch.uint8, generator=draw), torch.arange(8) % CLASSES


def trained(chosen, flat):
    """(gated network after a step, its tensors, those of two clients of a stack after the same)."""
    network = network_of(chosen, flat)
    stacked = train_together(copy.deepcopy(network), [examples()] * 2, STATISTICS, [PLAN] * 2)
    network.to(memory_format=torch.channels_last)
    train_locally(network, *examples(), STATISTICS, PLAN)
    return network.eval(), network_tensors(network), [tensors for tensors, _ in stacked]


@functools.cache
def first_trained(flat):
    return trained({}, flat)


def close(a, b):
    return torch.allclose(torch.as_tensor(a).double(), torch.as_tensor(b).double(), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def programs_of(network):
    """What each network that is exported makes of some images, by name; held against the eager one."""
    images, level, reference = random_images(4), torch.zeros(1, dtype=torch.int32), EagerReference(network)
    want, open_, _ = reference.run(images.numpy(), 0)
    skip = skip_network(network, lambda layer: True)
    found = {"masked": masked_network(network)(images, level), "skip": skip(images, level)}
    for logits, masks in found.values():
        assert close(logits, want) and (masks.numpy() == open_).all()
    kept = {name: torch.arange(gate.k[0]).numpy() for name, gate in network.gates.items()}
    found["static"] = (static_network(network, 0, kept)(images),)
    forced = reference.run(images.numpy(), 0, forced=fixed_masks(network.layers, kept))[0]
    assert close(found["static"][0], forced)
    found["dense"] = (dense_network(network)(images),)
    return {name: value[0] for name, value in found.items()}, skip


@functools.cache
def first_programs(flat):
    return programs_of(first_trained(flat)[0])


@pytest.fixture(autouse=True)
def however_small(monkeypatch):
    """Layers leave channels out in networks as small as a test's, too."""
    monkeypatch.setattr("fedgate.train.local.sliced.LEAST_SAVED", 0)


def compare(chosen, flat):
    network, tensors, stacked = trained(chosen, flat)
    first, first_tensors, first_stacked = first_trained(flat)
    assert network.layers == first.layers and network.training_graph is None
    for mine, right in zip((tensors, *stacked), (first_tensors, *first_stacked), strict=True):
        assert all(close(mine[name], right[name]) for name in right)
    (found, skip), (right, first_skip) = programs_of(network), first_programs(flat)
    assert all(close(found[name], right[name]) for name in right)
    assert kernel_layers(skip) == kernel_layers(first_skip) == ("stem", "one", "two", "three")
    options = [[body.get_submodule(name).options for name in kernel_layers(body)] for body in (skip, first_skip)]
    assert options[0] == options[1] and [each.relu for each in options[0]] == [True] * 4
    return network


@pytest.mark.parametrize("kind,spelling", CASES)
def test_a_spelling_gives_what_the_first_one_gives(kind, spelling):
    chosen = {kind: SPELLINGS[kind][spelling]}
    network = compare(chosen, flat=kind in (Kind.FLATTEN, Kind.INDEXED_POOL))
    there = {kind_of(node) for node in network.body.graph.nodes}
    assert kind in there or kind in (Kind.IDENTITY, Kind.DROPOUT)


@settings(max_examples=5, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.fixed_dictionaries({kind: st.sampled_from(SPELLINGS[kind]) for kind in KINDS}), st.booleans())
def test_spellings_in_one_network_give_what_the_first_ones_give(chosen, flat):
    compare(chosen, flat)


@pytest.mark.parametrize("kind", [Kind.RELU, Kind.AVG_POOL, Kind.GLOBAL_POOL, Kind.FLATTEN, Kind.PAD])
def test_training_programs_of_spellings_are_the_same(kind):
    outputs = []
    flat = kind is Kind.FLATTEN
    for spelling in SPELLINGS[kind]:
        network = network_of(FIRST | {kind: spelling, Kind.INDEXED_POOL: lambda x: (F.max_pool2d(x, 2), None)}, flat)
        part = trainable(network.eval(), "last-stage")
        plan = train_plan(part)
        step, _ = traced(step_of(part), plan.inputs, plan.outputs)
        draw = torch.Generator().manual_seed(0)
        values = [torch.rand(port.shape, generator=draw).to(getattr(torch, port.dtype)) for port in plan.inputs]
        outputs.append(step(*values))
    for found in outputs[1:]:
        assert all(close(mine, right) for mine, right in zip(found, outputs[0], strict=True))


def test_modules_of_every_kind_are_tried():
    tried = {type(each) for spellings in SPELLINGS.values() for each in spellings if isinstance(each, nn.Module)}
    plain = {each for each, kind in MODULES.items() if kind in SPELLINGS}
    assert plain <= tried
