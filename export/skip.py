"""`skip` networks: gated units as calls of one operator that computes the open channels alone.

A unit takes along what follows it, a residual add, a ReLU and a 2x2 maximum, so that a block's data stays planar and
is passed over once. Units that the kernel cannot do, or does slower than the dense network, stay as in `masked`.
"""

import copy
import functools
import operator

import torch
from torch import nn

from fedgate.train.network.build import output_shapes
from fedgate.train.network.graph import closers, input_gate
from fedgate.train.network.operations import Geometry, Kind, arguments, geometry_of, kind_of, operands, overwrites

from .eval_networks import finish, put_level, put_stock_unit, unit_nodes
from .fold import copy_body, scale_and_shift
from .gated_conv2d import Options, compute
from .kernel_table import pays

HALVING = Geometry((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1))  # the 2x2 maximum at stride 2


class SkipUnit(nn.Module):
    """A unit, and what follows it, as one call of an operator.

    (x, level int32 (1,), in_open uint8 (N, C_in) or None, residual or None) -> (y, open uint8 (N, C_out)), or y alone
    without a gate. `call` runs the operator, with the arguments of `gated_conv2d.compute`; each runtime's lowering
    puts its own way in the place of `compute`.
    """

    def __init__(self, unit, levels, options):
        super().__init__()
        rows = [scale_and_shift(unit, level) for level in range(levels)]
        self.options, self.call, self.gated = options, compute, unit.gate is not None
        self.register_buffer("weight", unit.conv.weight.detach().float().clone())
        self.register_buffer("scale", torch.stack([row[0] for row in rows]).float())
        self.register_buffer("shift", torch.stack([row[1] for row in rows]).float())
        predictor = unit.gate.predictor if self.gated else None
        self.register_buffer("gate_weight", predictor.weight.detach().t().contiguous() if self.gated else None)
        self.register_buffer("gate_bias", predictor.bias.detach().clone() if self.gated else None)
        self.register_buffer("kept", torch.tensor(unit.gate.k, dtype=torch.int32) if self.gated else None)

    def forward(self, x, level, in_open=None, residual=None):
        gate = (self.gate_weight, self.gate_bias, self.kept)
        tensors = (x, self.weight, self.scale, self.shift, level, in_open, *gate, residual)
        y, opened = self.call(*tensors, self.options)
        return (y, opened) if self.gated else y


def kernel_can(geometry, gate):
    """Whether the kernel computes a convolution: 1x1 or 3x3, stride 1 or 2, zero padding of kernel // 2."""
    side, step = geometry.kernel[0], geometry.stride[0]
    known = Geometry((side, side), (step, step), ((side // 2, side // 2),) * 2, (1, 1))
    return geometry == known and side in (1, 3) and step in (1, 2) and (gate is None or gate.kind != "scale")


def kernel_layers(body):
    """Names of the layers that the operator computes, in a network by `skip_network`."""
    return tuple(name for name, module in body.named_modules() if isinstance(module, SkipUnit))


def with_operator(body, call):
    """A copy of a network by `skip_network` whose units call the operator in a runtime's way (see `SkipUnit`)."""
    body = copy.deepcopy(body)
    for module in body.modules():
        if isinstance(module, SkipUnit):
            module.call = call
    return body


def skip_network(network, wanted=None):
    """The gated network around the operator: (image, level int32 (1,)) -> (logits, open uint8 (N, sum of C_out)).

    wanted: whether the kernel should compute a `Layer`; by default, whether it pays by the table of measured shapes.
    """
    if wanted is None:
        wanted = functools.partial(pays, densities=network.densities)
    body = copy_body(network)
    graph, levels = body.graph, len(network.densities)
    gated = {name: gate.out_channels for name, gate in network.gates.items()}
    shapes = output_shapes(body, network.shape)
    closer = closers(graph, gated, shapes)
    layers = {layer.name: layer for layer in network.layers}
    level, selected = put_level(body, levels)
    units, masks = unit_nodes(body), {}
    for node, unit in units:
        if kernel_can(geometry_of(node), unit.gate) and wanted(layers[node.target]):
            if unit.gate is not None:
                unit.gate.set_densities(network.densities)
            source, in_open = node.args[0], masks.get(input_gate(node, closer))
            chain, residual, options = fuse(node, shapes)
            last = chain[-1]
            body.set_submodule(node.target, SkipUnit(unit, levels, options))
            with graph.inserting_before(last):
                result = new = graph.call_module(node.target, (source, level, in_open, residual))
                if unit.gate is not None:
                    result = graph.call_function(operator.getitem, (new, 0))
                    masks[node.target] = graph.call_function(operator.getitem, (new, 1))
            closer[result], shapes[result] = closer[last], shapes[last]
            last.replace_all_uses_with(result)
            for old in reversed(chain):
                graph.erase_node(old)
        else:
            result, mask = put_stock_unit(body, node, unit, network.densities, selected)
            closer[result], shapes[result] = closer[node], shapes[node]
            if mask is not None:
                with graph.inserting_after(mask):
                    masks[node.target] = graph.call_method("to", (mask, torch.uint8))
    output = graph.output_node()
    if masks:  # a trunk may have none
        with graph.inserting_before(output):
            opened = graph.call_function(torch.cat, ([masks[node.target] for node, unit in units if unit.gate], 1))
        output.args = ((output.args[0], opened),)
    graph.eliminate_dead_code()
    return finish(body)


def fuse(node, shapes):
    """What of the nodes behind a unit its operator takes along: (chain of nodes, residual node or None, options).

    shapes: of the output of each node.
    """
    chain, residual, step, offset = [node], None, 1, 0
    add = only_user(chain[-1])
    if add is not None and operands(add) and not overwrites(add):
        others = [each for each in operands(add) if each is not node]
        if len(others) == 1 and shapes[others[0]] == shapes[node]:
            residual, step, offset = subsampled(others[0])
            chain.append(add)
    relu = only_user(chain[-1])
    takes_relu = relu is not None and kind_of(relu) is Kind.RELU
    if takes_relu:
        chain.append(relu)
    pool = only_user(chain[-1])
    takes_pool = pool is not None and geometry_of(pool) == HALVING
    if takes_pool:
        chain.append(pool)
    stride = geometry_of(node).stride[0]
    return chain, residual, Options(stride, takes_relu, 2 if takes_pool else 1, step, offset)


def only_user(node):
    return next(iter(node.users)) if len(node.users) == 1 else None


def subsampled(node):
    """A residual without its subsampling and zero channels (option A), which the operator does as it reads it.

    Returns (the node that is read, step between its rows and columns, number of zero channels in front).
    """
    step = offset = 0
    if kind_of(node) is Kind.PAD:
        given = arguments(node)
        sides = tuple(given.get("pad", ()))
        if given.get("mode", "constant") != "constant" or given.get("value"):
            return node, 1, 0
        if len(sides) != 6 or any(sides[:4]) or not all(isinstance(side, int) and side >= 0 for side in sides):
            return node, 1, 0
        node, offset = node.args[0], sides[4]
    if kind_of(node) is Kind.INDEX and isinstance(node.args[1], tuple) and len(node.args[1]) == 4:
        step = step_of(node.args[1])
        node = node.args[0] if step else node
    return node, step or 1, offset


def step_of(index):
    """s of an index [:, :, ::s, ::s]; 0 for any other."""
    whole = slice(None)
    if not all(isinstance(part, slice) and part.start is None and part.stop is None for part in index):
        return 0
    if index[:2] != (whole, whole) or index[2] != index[3]:
        return 0
    return index[2].step or 1
