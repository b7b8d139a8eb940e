"""Steps of a tail's training program beside the same steps by `train`: same network, same batches."""

import copy
from dataclasses import asdict
from typing import NamedTuple

import numpy as np
import torch
from lowered import NOTHING, bare_fields

from fedgate.device_runtime.engines import load_program
from fedgate.device_runtime.formats.bundle import Bundle, listing
from fedgate.device_runtime.formats.manifest import parse_manifest, render_manifest
from fedgate.device_runtime.formats.ports import MOMENTUM, TRUNK_OPEN
from fedgate.device_runtime.formats.tail import Tail
from fedgate.export.cut import cut_network, trunk_network
from fedgate.export.tail_plans import module_plan, step_of, train_plan
from fedgate.export.train_step import traced, trained_parameters
from fedgate.export.trainable import Trainable
from fedgate.train.local import client
from fedgate.train.local.adaptive import form_mask, mask_form
from fedgate.train.local.client import LocalPlan
from fedgate.train.network.build import network_tensors, norm_levels, parameter_axes
from fedgate.train.network.tails import freeze, trunk

BATCH = 16
CLOSE = 1e-5
ROUNDINGS = 3

PLAN = LocalPlan((0.5,), epochs=10, batch_size=16, lr=0.01, seed=3, level=0, lr_decay=0.9)


def steady(model):
    """Fields of a `LocalPlan` with which float32 can follow fifty steps of a model's training: see `Trained`."""
    deep = model in ("resnet20", "resnet32")
    return {"lr": 0.0005 if deep else 0.002, "seed": 0 if deep or model == "resnet18" else 3}


def trainable(network, part, adaptive=True, batch_size=BATCH):
    """A `Trainable` of a network without a run."""
    network.forget()
    network = copy.deepcopy(network).eval()
    freeze(network, trunk(network.layers, part))
    cut = cut_network(network, part)
    return Trainable(network, trunk_network(network, cut), cut, Tail({}, None), batch_size, adaptive)


class Eager:
    """The step as it is lowered, traced to plain operators, in the place of a loaded program."""

    def __init__(self, part):
        self.plan = train_plan(part)
        self.step, _ = traced(step_of(part), self.plan.inputs, self.plan.outputs)

    @torch.no_grad()
    def call(self, values):
        found = self.step(*(torch.from_numpy(values[port.name]) for port in self.plan.inputs))
        return {port.name: value.numpy().copy() for port, value in zip(self.plan.outputs, found, strict=True)}


def lowered(part, runtime, folder):
    """The train program of a `Trainable`, loaded from a bundle that is only good to be run, as one of role `train`.

    runtime: or "module", for ExecuTorch's training module.
    """
    return load_program(*staged(part, runtime, folder))


def staged(part, runtime, folder):
    """(a bundle that is only good to be run, its train program), for a runtime or "module"."""
    network = part.network
    program, files = module_plan(part).make("executorch") if runtime == "module" else train_plan(part).make(runtime)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    own = {name: listing(data) for name, data in files.items() if name != program["file"]}
    program |= listing(files[program["file"]])
    fields = bare_fields(network, network.layers[-1].out_channels) | {
        "tail": asdict(part.info),
        "programs": [program],
        "files": dict.fromkeys(("salience.safetensors", "reference.safetensors", "tail.safetensors"), NOTHING) | own,
    }
    manifest = parse_manifest(render_manifest(fields))
    return Bundle(folder, manifest), manifest.programs[0]


class Trained(NamedTuple):
    """What `train_locally` made in float64: tensors, losses of each step, `LocalResult`.

    room: how far from that float32 comes, in a parameter or a loss at most, of some runs that start from parameters an
    ulp apart. A gate's choice between channels of nearly the same salience, or a ReLU whose input is nearly 0, may fall
    otherwise in float32, and fifty steps make much of that: eager PyTorch then is up to 0.1 away from itself.
    """

    tensors: dict
    losses: np.ndarray
    result: client.LocalResult
    room: float


def train_eagerly(part, images, labels, statistics, plan, monkeypatch):
    """`Trained`; as `train_both` takes them."""
    data = images, labels, statistics, plan, monkeypatch
    found, losses, result = train_with(torch.float64, part.network, *data)
    room = 0.0
    for seed in range(ROUNDINGS):
        single, others, _ = train_with(torch.float32, an_ulp_apart(part.network, seed), *data)
        room = max(room, *(np.abs(found[name] - single[name]).max() for name in trained_parameters(part.network)))
        room = max(room, np.abs(losses - others).max())
    return Trained(found, losses, result, room)


@torch.no_grad()
def an_ulp_apart(network, seed):
    """A copy whose trained parameters are, at random, the next float32 above, below, or the same; seed 0: the same."""
    network, draw = copy.deepcopy(network), torch.Generator().manual_seed(seed)
    for p in trained_parameters(network).values() if seed else ():
        aims = torch.randint(-1, 2, p.shape, generator=draw)
        p.copy_(torch.where(aims == 0, p, torch.nextafter(p, torch.inf * torch.where(aims == 0, 1, aims))))
    return network


def train_with(dtype, network, images, labels, statistics, plan, monkeypatch):
    network, losses = copy.deepcopy(network).to(dtype), []
    objective, draw = client.objective, client.epoch_batches
    monkeypatch.setattr(client, "objective", lambda *a: losses.append(found := objective(*a)) or found)
    monkeypatch.setattr(client, "epoch_batches", lambda *a: ((x.to(dtype), *rest) for x, *rest in draw(*a)))
    result = client.train_locally(network, images, labels, statistics, plan)
    monkeypatch.undo()
    return network_tensors(network), np.array([float(loss.detach()) for loss in losses]), result


def train_both(part, program, images, labels, statistics, plan, monkeypatch):
    """`Trained` by `train_locally`, and (tensors, losses of each step, opened) by a program.

    images: uint8 (n, C, H, W), of which a batch need not be full.
    """
    eager = train_eagerly(part, images, labels, statistics, plan, monkeypatch)
    trunk = copy.deepcopy(part.trunk).double()
    state = {name: p.numpy().copy() for name, p in trained_parameters(part.network).items()}
    state |= {MOMENTUM + name: np.zeros_like(value) for name, value in state.items()}
    numbers = {name: getattr(plan, name) for name in ("momentum", "weight_decay", "clip_norm")}
    generator, found = torch.Generator().manual_seed(plan.seed), []
    part.network.set_densities(plan.densities)
    for epoch in range(plan.epochs):
        numbers["lr"], opened = plan.lr * plan.lr_decay**epoch, 0
        values = {name: np.array([value], np.float32) for name, value in numbers.items()}
        for x, y, level in client.epoch_batches(images, labels, statistics, plan, generator, torch.device("cpu")):
            given = batch(trunk, part.batch_size, x.double(), y, level)
            after = program.call(state | values | given)
            for name, keeps in kept(part, level, opened_of(part, after, given)).items():
                for each in (name, MOMENTUM + name):
                    assert np.array_equal(after[each][keeps], state[each][keeps]), each
            state = {name: after[name] for name in state}
            found.append(float(after["loss"][0]))
            opened = opened + after.get("opened", 0)
    return eager, (state, found, opened)


@torch.no_grad()
def batch(trunk, size, x, y, level):
    """The inputs of a step for a batch that may be smaller than the program's size."""
    trunk.level = level
    features, fill = trunk(x).float(), size - len(y)
    opened = trunk.open().numpy().astype(np.uint8) if trunk.gates else np.zeros((len(y), 0), np.uint8)
    trunk.forget()
    return {
        "features": np.pad(features.numpy(), [(0, fill)] + [(0, 0)] * (features.dim() - 1), constant_values=7.0),
        TRUNK_OPEN: np.pad(opened, [(0, fill), (0, 0)], constant_values=1),
        "labels": np.pad(y.numpy().astype(np.int32), (0, fill)),
        "weights": np.pad(np.ones(len(y), np.float32), (0, fill)),
        "level": np.array([level], np.int32),
    }


def opened_of(part, after, given):
    """By gated layer, the channels that a step's examples opened: of the tail by its outputs, of the trunk as given."""
    trunk = given[TRUNK_OPEN][given["weights"] > 0].any(0)
    columns = np.concatenate([trunk, after.get("opened", np.zeros(0)) > 0])
    ends = np.cumsum([gate.out_channels for gate in part.network.gates.values()])[:-1]
    return dict(zip(part.network.gates, np.split(columns, ends), strict=True)) if part.network.gates else {}


def kept(part, level, opened):
    """By parameter, the entries that must stay, bool: those of other levels, and of channels that no example opened."""
    network, parameters = part.network, trained_parameters(part.network)
    moves = {name: torch.ones_like(p, dtype=torch.bool) for name, p in parameters.items()}
    if part.adaptive and opened:
        sizes, axes = {name: len(mask) for name, mask in opened.items()}, parameter_axes(network)
        opened = {name: torch.from_numpy(mask) for name, mask in opened.items()}
        for name, p in parameters.items():
            moves[name] &= form_mask(mask_form(p.shape, axes[name], sizes), opened)
    for name in parameters.keys() & norm_levels(network).keys():
        moves[name] &= norm_levels(network)[name] == level
    return {name: ~mask.numpy() for name, mask in moves.items()}


def check(part, eager, ours, start):
    """Losses and parameters within 1e-5; the same channels open; what belongs to others stays, bit for bit.

    Only fifty steps that eager float32 can follow say anything of a program: what they train is chosen so.
    """
    (tensors, losses, result, room), (state, found, opened) = eager, ours
    assert room <= CLOSE, "float32 cannot follow these steps: choose others"
    assert np.abs(losses - found).max() <= CLOSE
    level = int(result.salience.samples.argmax())
    keeps, moved = kept(part, level, result.touched), 0
    for name in trained_parameters(part.network):
        assert np.abs(state[name] - tensors[name]).max() <= CLOSE, name
        for array in (state, tensors):
            assert np.array_equal(array[name][keeps[name]], start[name][keeps[name]]), name
        moved += (tensors[name] != start[name]).sum()
    assert moved
    gates = [name for name in part.network.gates if name in part.cut.layers]
    if gates:
        assert np.array_equal(opened, np.concatenate([result.salience.opened[name][level] for name in gates]))
