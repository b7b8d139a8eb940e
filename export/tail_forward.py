"""The tail of a network as a function of its parameters, made of operators whose derivatives all runtimes have too.

Maps are channels-last between the tail's layers: (N, H, W, C). Norms are those of evaluation: their running statistics
are constants, their scale and shift parameters.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import fx

from fedgate.device_runtime.errors import UsageError
from fedgate.train.network.build import GatedNetwork
from fedgate.train.network.operations import DROPOUTS, Kind, geometry_of, kind_of, label, module_of
from fedgate.train.network.walk import plainly

from .cut import Cut, tail_nodes
from .matmul_conv import matmul_conv
from .plain_operators import Salience, positive

# Operations that do the same to each entry of their arguments, however they lie.
ON_ENTRIES = (Kind.RELU, Kind.IDENTITY, Kind.ADD, *DROPOUTS)


class Result(NamedTuple):
    """What a pass through the tail leaves behind. logits: (N, classes). g, open: by gated layer (N, C) float32."""

    logits: torch.Tensor
    g: dict
    open: dict


class TailForward:
    """(parameters by name, features (N, ...), one-hot level (levels,)) -> `Result`."""

    def __init__(self, network: GatedNetwork, cut: Cut):
        self.network, self.levels = network, len(network.densities)
        self.place, self.nodes = tail_nodes(network, cut)
        self.constants = {n: t.detach().clone() for n, t in network.body.state_dict().items()}
        if network.training_graph is not None:
            raise UsageError("cannot export a training program: the network computes something else when it trains")
        for node in self.nodes:
            refuse(node)
        for name, parameter in network.body.named_parameters():
            if parameter.requires_grad and not name.startswith(tuple(f"{layer}." for layer in cut.layers)):
                raise UsageError(f"cannot export a training program: '{name}' is a tensor outside of the layers")
        network.set_densities(network.densities)
        self.k = {
            name: torch.tensor(gate.k, dtype=torch.float32)
            for name, gate in network.gates.items()
            if name in cut.layers
        }

    def __call__(self, parameters, features, selected):
        tensors = self.constants | parameters
        values = {self.place: channels_last(features)}
        g, opened = {}, {}
        for node in self.nodes:
            args, kwargs = fx.map_arg((node.args, node.kwargs), lambda source: values.get(source))
            module, kind = module_of(node), kind_of(node)
            if kind is Kind.OUTPUT:
                return Result(args[0], g, opened)
            if kind is Kind.CONV:
                values[node], *gate = self.unit(node, module, args[0], tensors, selected)
                if gate:
                    g[node.target], opened[node.target] = gate
            elif kind is Kind.LINEAR:
                bias = f"{node.target}.bias"
                y = args[0] @ tensors[f"{node.target}.weight"].t()
                values[node] = y + tensors[bias] if bias in tensors else y
            elif kind is Kind.MAX_POOL:
                values[node] = max_pool(args[0], geometry_of(node))
            elif kind in ON_ENTRIES:
                values[node] = plainly(node, module, args, kwargs)
            else:
                args, kwargs = fx.node.map_aggregate((args, kwargs), channels_first)
                values[node] = channels_last(plainly(node, module, args, kwargs))

    def unit(self, node, unit, x, tensors, selected):
        """pi * norm_level(conv(x)), and for a gated unit g and the mask, (N, C) float32."""
        name, geometry = node.target, geometry_of(node)
        padding = tuple(before for before, _ in geometry.padding)
        y = matmul_conv(x, tensors[f"{name}.conv.weight"], geometry.stride, padding, geometry.dilation)
        scale, shift = None, tensors.get(f"{name}.conv.bias")
        if len(unit.norms):
            scale, shift = self.affine(name, unit, tensors, selected, shift)
        if unit.gate is None:
            y = y if scale is None else y * scale
            return (y if shift is None else y + shift,)
        s = Salience.apply(x)
        g = torch.relu(s @ tensors[f"{name}.gate.predictor.weight"].t() + tensors[f"{name}.gate.predictor.bias"])
        mask = (
            torch.ones_like(g)
            if unit.gate.kind == "scale"
            else open_channels(g.detach(), (selected * self.k[name]).sum())
        )
        pi = g * mask
        y = y * (pi if scale is None else pi * scale)[:, None, None, :]
        return (y if shift is None else y + (pi * shift)[:, None, None, :]), g, mask

    def affine(self, name, unit, tensors, selected, bias):
        """Scale and shift of the norm of the selected level, over the convolution without its bias: (C,) each."""
        scales, shifts = [], []
        for level, norm in enumerate(unit.norms):
            weight, shift, mean, var = (
                tensors[f"{name}.norms.{level}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
            )
            scale = weight * (1 / (var + norm.eps).sqrt())
            scales.append(scale)
            shifts.append(shift + scale * (-mean if bias is None else bias - mean))
        if self.levels == 1:
            return scales[0], shifts[0]
        return tuple((selected[:, None] * torch.stack(rows)).sum(0) for rows in (scales, shifts))


def refuse(node):
    """Refuse, by name, what a device cannot train as `train` does."""
    kind, geometry = kind_of(node), geometry_of(node)
    reason = None
    if kind is Kind.TENSOR:
        reason = "it belongs to no layer"
    elif kind in DROPOUTS and module_of(node).p > 0:
        reason = "it is random"
    elif kind is Kind.INDEXED_POOL:
        reason = "programs have no indices"
    elif kind is Kind.MAX_POOL and (geometry is None or geometry.ceil):
        reason = "its windows are no fixed numbers, or it has ceil_mode"
    elif kind is Kind.CONV and (geometry.groups != 1 or geometry.padding_mode != "zeros"):
        reason = "it has groups or pads with values"
    elif kind is Kind.CONV and any(before != after for before, after in geometry.padding):
        reason = "it pads its two sides differently"
    if reason:
        raise UsageError(f"cannot export a training program through {label(node)}: {reason}")


def channels_last(x):
    return x.permute(0, 2, 3, 1) if isinstance(x, torch.Tensor) and x.dim() == 4 else x


def channels_first(x):
    return x.permute(0, 3, 1, 2) if isinstance(x, torch.Tensor) and x.dim() == 4 else x


def open_channels(g, k):
    """The mask of finite g (N, C), float32: rank_i < k and g_i > 0; k: float32 ().

    XNNPACK has no comparisons. ceil(d) + floor(d) is 0 for d = 0, and else has d's sign and is at least 1 in size.
    """
    ahead = g[:, None, :] - g[:, :, None]  # [i, j]: of j over i
    earlier = torch.ones(g.shape[1], g.shape[1]).tril(-1)  # [i, j]: j < i
    rank = (ahead.ceil() + ahead.floor() + earlier).clamp(0, 1).sum(2)
    return positive(k - rank) * positive(g)


def max_pool(x, geometry):
    """Maxima of maps (N, H, W, C); among equals the gradient goes to the first, as in PyTorch."""
    (kh, kw), (sh, sw), (dh, dw) = geometry.kernel, geometry.stride, geometry.dilation
    (ph, _), (pw, _) = geometry.padding
    if ph or pw:
        x = F.pad(x, (0, 0, pw, pw, ph, ph), value=torch.finfo(x.dtype).min)
    oh, ow = (x.shape[1] - dh * (kh - 1) - 1) // sh + 1, (x.shape[2] - dw * (kw - 1) - 1) // sw + 1
    best = None
    for i in range(kh):
        for j in range(kw):
            part = x[:, i * dh :, j * dw :][:, : (oh - 1) * sh + 1 : sh, : (ow - 1) * sw + 1 : sw]
            best = part if best is None else torch.where(part > best, part, best)
    return best
