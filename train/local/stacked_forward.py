"""The networks of several clients as one, stacked along the channels: what runs on a GPU as few, large kernels.

A map of B clients is (N, B C, H, W), client by client; features are (N, B F). Convolutions are grouped, one group a
client; a batch norm over B C channels is each client's own; gates and linear layers are batched products. Clients whose
batches are smaller than the largest have rows of zeros behind their own, which no statistic, mask or loss sees.
"""

import torch
import torch.nn.functional as F

from fedgate.device_runtime.errors import UsageError

from ..network.gated_conv import convolve
from ..network.gates import open_channels, salience
from ..network.graph import check
from ..network.operations import DROPOUTS, Kind, kind_of, label
from ..network.walk import Walk, plainly

# Operations that treat each channel alike and by itself, so that they need not know of clients.
ALIKE = (Kind.RELU, Kind.MAX_POOL, Kind.INDEXED_POOL, Kind.AVG_POOL, Kind.GLOBAL_POOL, Kind.IDENTITY, Kind.ADD)

NORM = ("weight", "bias", "running_mean", "running_var")


def random_node(network):
    """An operation that draws something random, in words, or None."""
    graph = network.training_graph or network.body.graph
    return next((label(node) for node in graph.nodes if kind_of(node) in DROPOUTS), None)


def strange_node(network):
    """An operation that gates would refuse, and a stack might not compute as each client would; in words, or None."""
    for node in network.body.graph.nodes:
        try:
            check(node)
        except UsageError:
            return label(node)
    return None


def loose_tensor(network):
    """The name of a parameter or buffer that the graph reads by itself, without a layer, or None."""
    return next((node.target for node in network.body.graph.nodes if kind_of(node) is Kind.TENSOR), None)


class StackedForward(Walk):
    """Runs a `GatedNetwork`'s graph in training mode with the tensors of B clients.

    After a call `open`, `g` and `pi` hold each gate's (B, N, C_out), zero in the rows behind a client's batch, and
    `valid` (B, N) tells which rows are not. With several levels `seen` holds mean and variance, (B, C), of what each
    norm saw, and the running statistics are left alone.
    """

    def __init__(self, network):
        super().__init__(network)
        self.names = {unit: name for name, unit in network.units.items()}
        self.open, self.g, self.pi, self.seen = {}, {}, {}, {}

    def __call__(self, images, tensors, levels, sizes, update_statistics=True):
        """images (N, B C, H, W) -> logits (B, N, classes).

        tensors: name -> (B, *shape), of each entry of the network's state; the running statistics of a network with
        one level are updated in place. levels, sizes: the level that each client trains, and how many of the N images
        are its own.
        """
        self.tensors, self.levels, self.update_statistics = tensors, levels, update_statistics
        self.counts = sizes
        self.clients, self.full = len(levels), min(sizes) == len(images)
        self.sizes = torch.tensor(sizes, device=images.device)
        self.valid = torch.arange(len(images), device=images.device) < self.sizes[:, None]
        return self.apart(super().__call__(images))

    def call(self, node, module, args, kwargs):
        kind = kind_of(node)
        if kind is Kind.CONV:
            return self.unit(module, args[0])
        if kind is Kind.LINEAR:
            return self.linear(node.target, self.apart(args[0]))
        if kind in ALIKE:
            return plainly(node, module, args, kwargs)
        parts = [self.of_client(b, (args, kwargs)) for b in range(self.clients)]
        found = [plainly(node, module, *part) for part in parts]
        return torch.cat(found, 1) if isinstance(found[0], torch.Tensor) else found[0]

    def of_client(self, b, value):
        """A value of the graph, tuples and dictionaries too, as client b's own network has it."""
        if isinstance(value, torch.Tensor):
            return value.unflatten(1, (self.clients, -1))[:, b]
        if isinstance(value, tuple | list):
            return type(value)(self.of_client(b, each) for each in value)
        return {key: self.of_client(b, each) for key, each in value.items()} if isinstance(value, dict) else value

    def apart(self, x):
        """(N, B F) -> (B, N, F)."""
        return x.unflatten(1, (self.clients, -1)).transpose(0, 1)

    def linear(self, name, x):
        """x (B, N, F) -> (N, B F')."""
        y = x @ self.tensors[f"{name}.weight"].to(x.dtype).transpose(1, 2)
        if f"{name}.bias" in self.tensors:
            y = y + self.tensors[f"{name}.bias"][:, None].to(y.dtype)
        return y.transpose(0, 1).flatten(1)

    def unit(self, unit, x):
        name, conv = self.names[unit], unit.conv
        bias = None if conv.bias is None else self.tensors[f"{name}.conv.bias"].flatten()
        weight = self.tensors[f"{name}.conv.weight"].flatten(0, 1)
        y = convolve(conv, x, weight, bias, self.clients)
        if len(unit.norms):
            y = self.norm(name, unit, y)
        if unit.gate is None:
            return y
        return y * self.gate(name, unit.gate, x).transpose(0, 1).flatten(1)[:, :, None, None].to(y.dtype)

    def gate(self, name, gate, x):
        """pi of a unit's input: (B, N, C_out), float32."""
        with torch.autocast(x.device.type, enabled=False):
            weight, bias = (self.tensors[f"{name}.gate.predictor.{part}"] for part in ("weight", "bias"))
            g = torch.baddbmm(bias[:, None], self.apart(salience(x)), weight.transpose(1, 2)).relu()
        mask = self.valid[:, :, None]
        if gate.kind != "scale":
            k = torch.tensor([gate.k[level] for level in self.levels], device=g.device).repeat_interleave(g.shape[1])
            mask = mask & open_channels(g.detach().flatten(0, 1), k[:, None]).view_as(g)
        self.open[name], self.g[name] = mask.expand_as(g), g * self.valid[:, :, None]
        self.pi[name] = g * mask
        return self.pi[name]

    def norm(self, name, unit, y):
        """Each client's batch norm, of the level that it trains; a frozen one is that of evaluation."""
        norm, momentum = unit.norms[0], unit.norms[0].momentum
        parts = [[self.tensors[f"{name}.norms.{level}.{part}"] for level in range(len(unit.norms))] for part in NORM]
        if len(unit.norms) == 1:
            weight, bias, mean, var = (part[0] for part in parts)
        else:
            levels = torch.tensor(self.levels, device=y.device)
            rows = torch.arange(self.clients, device=y.device)
            weight, bias, mean, var = (torch.stack(part)[levels, rows] for part in parts)
            momentum = 1.0  # leaves the batch's own statistics, and in copies
        momentum = momentum if self.update_statistics else 0.0
        single = norm.training and y.shape[2:].numel() == 1 and min(self.counts) == 1  # see `units.batch_norm`
        if (self.full and not single) or not norm.training:  # the flat statistics are views, which batch_norm updates
            flat = mean.view(-1), var.view(-1), weight.flatten(), bias.flatten()
            y = F.batch_norm(y, *flat, training=norm.training, momentum=momentum, eps=norm.eps)
        else:
            y = self.ragged_norm(y, weight, bias, mean, var, momentum, norm.eps, single)
        if len(unit.norms) > 1 and self.update_statistics:
            self.seen[name] = mean, var
        return y

    def ragged_norm(self, y, weight, bias, mean, var, momentum, eps, single=False):
        """A batch norm, and its update of mean and var (B, C), that sees the valid rows alone; y (N, B C, H, W).

        single: a client with one value a channel is normalised by mean and var, which stay.
        """
        x = y.to(torch.promote_types(y.dtype, torch.float32)).unflatten(1, (self.clients, -1))  # (N, B, C, H, W)
        seen = self.valid.t()[:, :, None, None, None]
        count = (self.sizes * x[0, 0, 0].numel()).to(x.dtype)[:, None]  # (B, 1)
        centre = (x * seen).sum((0, 3, 4)) / count
        if single:
            centre = torch.where(count == 1, mean.clone(), centre)
        x = x - centre[:, :, None, None]
        spread = (x.square() * seen).sum((0, 3, 4)) / count
        if single:
            spread = torch.where(count == 1, var.clone(), spread)
        with torch.no_grad():
            mean.lerp_(centre, momentum)
            var.lerp_(spread * count / (count - 1).clamp(min=1), momentum)
        x = x * (weight * (spread + eps).rsqrt())[:, :, None, None] + bias[:, :, None, None]
        return x.flatten(1, 2).to(y.dtype)
