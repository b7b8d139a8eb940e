"""The part of a bundle that trains: its programs, their entries in the manifest, and tail.safetensors."""

import dataclasses
from dataclasses import dataclass

from torch import nn

from fedgate.device_runtime.errors import UsageError
from fedgate.device_runtime.formats.macs import mask_width
from fedgate.device_runtime.formats.ports import HYPERPARAMETERS, MOMENTUM, TRUNK_OPEN, Port, TailInfo, masks
from fedgate.device_runtime.formats.tail import Tail
from fedgate.train.config.resolve import changed
from fedgate.train.ingredients import make_network
from fedgate.train.network.build import GatedNetwork, load_tensors, network_tensors
from fedgate.train.network.channels import update_spec
from fedgate.train.server.downloads import Broadcast
from fedgate.train.server.rounds import SERVER_STREAM

from .cut import Cut, cut_network, trunk_network
from .eval_networks import dense_network, masked_network
from .lowering import LOWERINGS, lower, lower_function
from .skip import kernel_layers, skip_network
from .train_step import TailInference, TrainStep, reads_trunk_masks, traced, trained_parameters

TRAINING_ENGINES = ("litert", "executorch")


@dataclass(frozen=True)
class Trainable:
    """What of a run's network a device trains.

    network: with the trunk frozen, in evaluation mode. trunk: it alone. held: closed channels do not move.
    """

    network: GatedNetwork
    trunk: GatedNetwork
    cut: Cut
    tail: Tail
    batch_size: int
    held: bool

    @property
    def info(self):
        return TailInfo(self.cut.trainable, self.cut.layers, self.cut.features, self.batch_size)


def make_trainable(directory, state, trainable, batch_size) -> Trainable:
    """What `--trainable` asks for of a run. Raises `UsageError` for a network that cannot be cut there.

    state: the `ServerState` of the run's newest checkpoint.
    """
    info, config = directory.info, directory.info.config
    same = trainable == config.trainable
    if not same:
        base = config.base or str(directory.path)
        info = dataclasses.replace(info, config=changed(config, trainable=trainable, base=base))
    network = make_network(info, tensors=state.tensors).eval()
    cut = cut_network(network, trainable)
    # What clients of the next round would be given, of a run that trains the same.
    seed = config.seed, state.round, SERVER_STREAM
    broadcast = Broadcast(state, update_spec(network, info.run), config.download_codec if same else "fp32", seed)
    load_tensors(network, broadcast.public, partly=True)
    prefixes = tuple(f"{name}." for name in cut.layers)
    own = {name: value for name, value in network_tensors(network).items() if name.startswith(prefixes)}
    tail = Tail(own, broadcast.spec)
    return Trainable(network, trunk_network(network, cut), cut, tail, batch_size, config.adaptive_gradient)


@dataclass(frozen=True)
class TailPlan:
    """One program to make: a trunk from a network of images, or the tail's from a function of arrays."""

    role: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    network: nn.Module
    examples: tuple = ()
    needs_kernel: bool = False

    @property
    def stem(self):
        return f"{self.role}-skip" if self.needs_kernel else self.role

    def lower(self, engine, shape):
        """The program's bytes; shape: of an image, (C, H, W)."""
        if self.role == "trunk":
            return lower(self.network, engine, shape, any(port.name == "level" for port in self.inputs))
        return lower_function(self.network, engine, self.examples)

    def entry(self, engine):
        """The manifest's entry, without its hash."""
        suffix, layout, *_ = LOWERINGS[engine]
        return {
            "file": f"{engine}-{self.stem}.{suffix}",
            "engine": engine,
            "role": self.role,
            "level": None,
            "inputs": [port_json(port, layout) for port in self.inputs],
            "outputs": [port_json(port, layout) for port in self.outputs],
            "needs_kernel": self.needs_kernel,
            "kernel_layers": list(kernel_layers(self.network)) if self.needs_kernel else [],
        }


def port_json(port, layout):
    """A port as a manifest has it; an image in the engine's layout."""
    shape = list(port.shape)
    if port.name != "image":
        return {"name": port.name, "shape": shape, "dtype": port.dtype, "layout": None}
    n, c, h, w = shape
    return {
        "name": "image",
        "shape": shape if layout == "NCHW" else [n, h, w, c],
        "dtype": port.dtype,
        "layout": layout,
    }


def plan_tail_programs(part: Trainable, kernel=True):
    """The programs of a `Trainable`: trunk, tail and train; kernel: also a trunk that skips, where it can."""
    return [*trunk_plans(part, kernel), tail_plan(part), train_plan(part)]


def level_port(network):
    return (Port("level", (1,), "int32"),) if network.gate != "none" else ()


def parameter_ports(network):
    return tuple(Port(name, tuple(p.shape)) for name, p in trained_parameters(network).items())


def trunk_plans(part, kernel):
    network, trunk, gated = part.network, part.trunk, part.network.gate != "none"
    image, level = (Port("image", (1, *network.shape)),), level_port(network)
    outputs = (Port("features", (1, *part.cut.features)), *masks("open", trunk.layers, 1))
    plans = [TailPlan("trunk", image + level, outputs, masked_network(trunk) if gated else dense_network(trunk))]
    skip = skip_network(trunk) if gated and kernel else None
    if skip is not None and kernel_layers(skip):
        plans.append(TailPlan("trunk", image + level, outputs, skip, needs_kernel=True))
    return plans


def tail_plan(part):
    network, own = part.network, parameter_ports(part.network)
    classes = network.layers[-1].out_channels
    inputs = (*own, Port("features", (1, *part.cut.features)), *level_port(network))
    outputs = (Port("logits", (1, classes)), *masks("open", part.info.split(network.layers)[1], 1))
    return TailPlan("tail", inputs, outputs, *traced(TailInference(network, part.cut), inputs, outputs))


def train_plan(part):
    own, momenta, batch, results = train_ports(part)
    inputs, outputs = (*own, *momenta, *batch), (*own, *momenta, *results)
    return TailPlan("train", inputs, outputs, *traced(TrainStep(part.network, part.cut, part.held), inputs, outputs))


def train_ports(part):
    """Of a training step: parameters, their momenta, its other inputs, and what it tells of itself."""
    network, size, own = part.network, part.batch_size, parameter_ports(part.network)
    layers = part.info.split(network.layers)
    width = mask_width(layers[1])
    momenta = tuple(Port(MOMENTUM + port.name, port.shape) for port in own)
    trunk_open = masks(TRUNK_OPEN, layers[0], size) if reads_trunk_masks(network, part.cut) else ()
    batch = (
        Port("features", (size, *part.cut.features)),
        *trunk_open,
        Port("labels", (size,), "int32"),
        Port("weights", (size,)),
        *level_port(network),
        *(Port(name, (1,)) for name in HYPERPARAMETERS),
    )
    counts = tuple(Port(name, (width,)) for name in ("opened", "strength") if width)
    return own, momenta, batch, (Port("loss", (1,)), Port("correct", (1,)), *counts)


def check_engines(engines):
    """Those of some engines for which there are programs that train. Raises `UsageError` where there is none."""
    found = [engine for engine in engines if engine in TRAINING_ENGINES]
    if not found:
        raise UsageError(f"programs that train are for {' and '.join(TRAINING_ENGINES)}: add one of them to --to")
    return found
