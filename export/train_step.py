"""The tail's programs as pure functions of named arrays: inference, and a step of local training.

A step is `train.local_step`, of what the adaptive gradient of `train.adaptive` moves: of a parameter, the entries whose
channels a weighted example of the batch opened. Functions are traced, forward and backward, to one graph of plain
operators, so that what runs inference also trains.
"""

import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from fedgate.device_runtime.formats.ports import MOMENTUM, TRUNK_OPEN
from fedgate.train.local.adaptive import mask_form
from fedgate.train.local.step import Rates, directions
from fedgate.train.network.build import GatedNetwork, norm_levels, parameter_axes
from fedgate.train.network.gates import FBS_PENALTY

from .cut import Cut
from .plain_operators import PLAIN
from .tail_forward import TailForward

STEP = "step/"


def trained_parameters(network: GatedNetwork):
    """The parameters that gradients train, by name, sorted; the others of a frozen network stay as they are."""
    named = dict(network.body.named_parameters())
    return {name: named[name].detach() for name in sorted(named) if named[name].requires_grad}


def reads_trunk_masks(network: GatedNetwork, cut: Cut):
    """Whether the channels of a trunk's layer index a parameter that is trained."""
    axes = parameter_axes(network)
    return any(axis not in (None, *cut.layers) for name in trained_parameters(network) for axis in axes[name])


def one_hot(level, count):
    """int32 (1,) -> float32 (count,)."""
    return (level == torch.arange(count, dtype=torch.int32)).float()


class TailInference:
    """PARAMETER..., features, level -> logits, open; as `ports` has the role `tail`."""

    def __init__(self, network: GatedNetwork, cut: Cut):
        self.network, self.names = network, list(trained_parameters(network))
        self.forward = TailForward(network, cut)

    def __call__(self, values):
        result = self.forward({name: values[name] for name in self.names}, values["features"], selected(self, values))
        opened = [mask.to(torch.uint8) for mask in result.open.values()]
        return {"logits": result.logits} | ({"open": torch.cat(opened, 1)} if opened else {})


def selected(program, values):
    """The level of a call as one-hot float32 (levels,)."""
    level = values.get("level")
    return torch.ones(1) if level is None else one_hot(level, len(program.network.densities))


class TrainStep:
    """One step on a batch; as `ports` has the role `train`. network: its trunk frozen.

    adaptive: closed channels do not move.
    """

    def __init__(self, network: GatedNetwork, cut: Cut, adaptive=True):
        self.network, self.adaptive = network, adaptive and bool(network.gates)
        self.names = list(trained_parameters(network))
        self.forward = TailForward(network, cut)
        self.sizes = {name: gate.out_channels for name, gate in network.gates.items()}
        self.axes, self.level_of = parameter_axes(network), norm_levels(network)
        start, self.trunk_columns = 0, {}
        for name, size in self.sizes.items():
            if name not in cut.layers:
                self.trunk_columns[name] = slice(start, start + size)
                start += size

    def __call__(self, values):
        level = selected(self, values)
        parameters = {name: values[name] for name in self.names}
        differentiate = torch.func.grad_and_value(self.objective, has_aux=True)
        gradients, (loss, result) = differentiate(parameters, values, level)
        counted = (values["weights"] > 0).float()
        opened = {name: (counted[:, None] * mask).sum(0) for name, mask in result.open.items()}
        outputs = self.moved(parameters, gradients, values, self.open_channels(opened, counted, values), level)
        outputs |= {"loss": loss.reshape(1), "correct": (counted * right(result.logits, values["labels"])).sum(0, True)}
        if opened:
            strength = [(counted[:, None] * (result.g[name] * mask)).sum(0) for name, mask in result.open.items()]
            outputs |= {"opened": torch.cat(list(opened.values())), "strength": torch.cat(strength)}
        return outputs

    def objective(self, parameters, values, level):
        """The loss of the weighted examples, scalar; and what the pass left behind."""
        result = self.forward(parameters, values["features"], level)
        weights = values["weights"]
        total = weights.sum()
        mean = weights / torch.where(total > 0, total, 1.0)
        loss = (mean * cross_entropy(result.logits, values["labels"])).sum()
        if self.network.gate == "fbs":
            counted = (weights > 0).float()[:, None]
            loss = loss + FBS_PENALTY * sum((counted * g).sum() for g in result.g.values())
        return loss, result

    def open_channels(self, opened, counted, values):
        """By gated layer, those of the trunk too, whether a weighted example opened a channel: float32 (C,)."""
        if not self.adaptive:
            return {}
        trunk = {}
        if TRUNK_OPEN in values:
            columns = ((counted[:, None] * values[TRUNK_OPEN].float()).sum(0) > 0).float()
            trunk = {name: columns[part] for name, part in self.trunk_columns.items()}
        return trunk | {name: (count > 0).float() for name, count in opened.items()}

    def moved(self, parameters, gradients, values, opened, level):
        """The parameters and buffers after the step, and by how much it lessened the parameters."""
        rates = Rates(*(values[name] for name in Rates._fields))
        masks = {name: self.mask(name, p, opened, level) for name, p in parameters.items()}
        momenta = {name: values[MOMENTUM + name] for name in parameters}
        found, momenta = directions(parameters, gradients, momenta, masks, rates, plain_norm)
        steps = {name: rates.lr * direction for name, direction in found.items()}
        after = {name: p - steps[name] for name, p in parameters.items()}
        after |= {STEP + name: each for name, each in steps.items()}
        return after | {MOMENTUM + name: buffer for name, buffer in momenta.items()}

    def mask(self, name, p, opened, level):
        """Which entries of a parameter the step moves, float32 of its shape; None for all."""
        mask = None
        if opened:
            for i, axis in enumerate(mask_form(p.shape, self.axes[name], self.sizes)):
                if axis is not None:
                    layer, each = axis
                    shape = [-1 if i == j else 1 for j in range(p.dim())]
                    entries = opened[layer][:, None].expand(-1, each).reshape(shape)
                    mask = entries if mask is None else mask * entries
        if len(self.network.densities) > 1 and name in self.level_of:
            at = self.level_of[name]
            mask = level[at : at + 1] if mask is None else mask * level[at : at + 1]
        return None if mask is None else mask.expand(p.shape)


def plain_norm(gradients):
    """`total_norm` in operators that runtimes have: (1,)."""
    return torch.stack([(gradient * gradient).sum() for gradient in gradients]).sum(0, True).sqrt()


def cross_entropy(logits, labels):
    """Of each example, (N,); labels int32 (N,)."""
    shifted = logits - logits.detach().amax(1, True)
    hit = (labels[:, None] == torch.arange(logits.shape[1], dtype=torch.int32)).float()
    return shifted.exp().sum(1).log() - (shifted * hit).sum(1)


def right(logits, labels):
    """Whether the label has the highest logit of an example, the first among equals: float32 (N,)."""
    index = torch.arange(logits.shape[1], dtype=torch.int32)
    own = (logits * (labels[:, None] == index).float()).sum(1, True)
    ahead = (logits > own) | ((logits == own) & (index < labels[:, None]))
    return 1.0 - ahead.float().amax(1)


class Flat(nn.Module):
    """A function of named arrays as a module of positional ones, for the runtimes' exporters."""

    def __init__(self, graph):
        super().__init__()
        self.graph_module = graph

    def forward(self, *arrays):
        return self.graph_module(*arrays)


def traced(function, inputs, outputs):
    """A module of plain operators that computes `function`, a map from named tensors to named tensors.

    inputs, outputs: its ports (`device_runtime.ports.Port`), in order.
    """
    examples = [torch.zeros(port.shape, dtype=getattr(torch, port.dtype)) for port in inputs]

    def positional(*arrays):
        found = function({port.name: array for port, array in zip(inputs, arrays, strict=True)})
        return tuple(found[port.name] for port in outputs)

    return Flat(make_fx(positional, PLAIN, "real")(*examples)), tuple(examples)
