"""The tail of a network as a function of its parameters, made of operators whose derivatives all runtimes have too.

Maps are channels-last between the tail's layers: (N, H, W, C). Norms are those of evaluation: their running statistics
are constants, their scale and shift parameters.
"""

import operator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import fx, nn

from fedgate.device_runtime.errors import UsageError
from fedgate.train.graph import module_of
from fedgate.train.network import GatedNetwork
from fedgate.train.units import ConvUnit
from fedgate.train.walk import plainly

from .cut import Cut, tail_nodes
from .matmul_conv import matmul_conv
from .plain_operators import Salience, positive


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
            refuse(node, module_of(node))
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
            module = module_of(node)
            if node.op == "output":
                return Result(args[0], g, opened)
            if isinstance(module, ConvUnit):
                values[node], *gate = self.unit(node.target, module, args[0], tensors, selected)
                if gate:
                    g[node.target], opened[node.target] = gate
            elif isinstance(module, nn.Linear):
                bias = f"{node.target}.bias"
                y = args[0] @ tensors[f"{node.target}.weight"].t()
                values[node] = y + tensors[bias] if bias in tensors else y
            elif isinstance(module, nn.MaxPool2d):
                values[node] = max_pool(args[0], module)
            elif acts_on_entries(node, module):
                values[node] = plainly(node, module, args, kwargs)
            else:
                args, kwargs = fx.node.map_aggregate((args, kwargs), channels_first)
                values[node] = channels_last(plainly(node, module, args, kwargs))

    def unit(self, name, unit, x, tensors, selected):
        """pi * norm_level(conv(x)), and for a gated unit g and the mask, (N, C) float32."""
        conv = unit.conv
        y = matmul_conv(x, tensors[f"{name}.conv.weight"], conv.stride, padding_of(conv), conv.dilation)
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


def refuse(node, module):
    """Refuse, by name, what a device cannot train as `train` does."""
    if isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0:
        raise UsageError(f"cannot export a training program through '{node.target}': dropout is random")
    if isinstance(module, ConvUnit) and (module.conv.groups != 1 or module.conv.padding_mode != "zeros"):
        raise UsageError(f"cannot export a training program through '{node.target}': it has groups or pads with values")
    if node.op == "get_attr":
        raise UsageError(f"cannot export a training program: '{node.target}' is a tensor outside of the layers")
    if node.target is F.dropout or (node.target is F.max_pool2d):
        raise UsageError(f"cannot export a training program through '{node.name}': give it as a module of torch.nn")
    if isinstance(module, nn.MaxPool2d) and (module.ceil_mode or module.return_indices):
        raise UsageError(f"cannot export a training program through '{node.target}': it has ceil_mode or indices")


def acts_on_entries(node, module):
    """Whether a node does the same to each entry of its arguments, however they lie."""
    return isinstance(module, nn.ReLU | nn.Identity | nn.Dropout) or node.target in (
        torch.relu, F.relu, "relu", "relu_", operator.add, operator.iadd, torch.add, "add", "add_", "contiguous"
    )  # fmt: skip


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


def padding_of(conv):
    """The padding of a convolution in numbers: (rows, columns)."""
    if conv.padding == "valid":
        return (0, 0)
    if conv.padding == "same":
        sides = [gap * (k - 1) for gap, k in zip(conv.dilation, conv.kernel_size, strict=True)]
        if any(side % 2 for side in sides):
            raise UsageError("cannot export a training program: a convolution pads its two sides differently")
        return tuple(side // 2 for side in sides)
    return conv.padding


def max_pool(x, module):
    """Maxima of maps (N, H, W, C); among equals the gradient goes to the first, as in PyTorch."""
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = (
        (side, side) if isinstance(side, int) else side
        for side in (module.kernel_size, module.stride, module.padding, module.dilation)
    )
    if ph or pw:
        x = F.pad(x, (0, 0, pw, pw, ph, ph), value=torch.finfo(x.dtype).min)
    oh, ow = (x.shape[1] - dh * (kh - 1) - 1) // sh + 1, (x.shape[2] - dw * (kw - 1) - 1) // sw + 1
    best = None
    for i in range(kh):
        for j in range(kw):
            part = x[:, i * dh :, j * dw :][:, : (oh - 1) * sh + 1 : sh, : (ow - 1) * sw + 1 : sw]
            best = part if best is None else torch.where(part > best, part, best)
    return best
