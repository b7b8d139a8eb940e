"""From a gated network to the networks that are exported: `dense`, `masked` and `static`, norms folded.

Each takes the place of the training network's units in a copy of its graph; everything between the units stays.
"""

import operator

import numpy as np
import torch
from torch import nn

from fedgate.train.network.build import output_shapes
from fedgate.train.network.graph import closers, input_gate, reads_by_channel
from fedgate.train.network.operations import Kind, kind_of, module_of

from .fold import copy_body, folded_conv
from .modules import Levels, LevelUnit, MaskedUnit, Scatter, StaticUnit

KEEPS_SIGN = (Kind.MAX_POOL, Kind.AVG_POOL, Kind.GLOBAL_POOL, Kind.FLATTEN, Kind.DROPOUT, Kind.IDENTITY)


def unit_nodes(body):
    """The nodes of a graph module that call a unit: [(node, unit)]."""
    return [(node, module_of(node)) for node in body.graph.nodes if kind_of(node) is Kind.CONV]


def is_non_negative(node):
    """Whether a node's values are known to be at least zero: behind a ReLU and what preserves the sign."""
    while kind_of(node) in KEEPS_SIGN:
        node = node.args[0]
    return kind_of(node) is Kind.RELU


def finish(body):
    """Check and compile a rewritten graph."""
    body.delete_all_unused_submodules()
    body.graph.lint()
    body.recompile()
    return body.eval()


def dense_network(network, level=None):
    """The network without gates, image -> logits: every channel, unscaled, with the norms of a level (the highest)."""
    level = len(network.densities) - 1 if level is None else level
    body = copy_body(network)
    for node, unit in unit_nodes(body):
        body.set_submodule(node.target, folded_conv(unit, level))
    return finish(body)


def put_level(body, levels):
    """Give a graph its second input, the level: the nodes of level int32 (1,) and of the same as one-hot float32."""
    graph = body.graph
    image = next(node for node in graph.nodes if node.op == "placeholder")
    body.add_submodule("levels", Levels(levels))
    with graph.inserting_after(image):
        level = graph.placeholder("level")
    with graph.inserting_after(level):
        return level, graph.call_module("levels", (level,))


def put_stock_unit(body, node, unit, densities, selected):
    """Put stock operators in the place of a unit, all its channels computed, closed ones multiplied by zero.

    selected: the node of the one-hot level. Returns the nodes of the unit's result and of its mask, float32
    (N, C_out), or None where it has no gate.
    """
    graph, levels = body.graph, len(densities)
    if unit.gate is not None:
        unit.gate.set_densities(densities)
        new = MaskedUnit(unit, unit.gate.k, is_non_negative(node.args[0]), unit.gate.kind != "scale")
    elif levels > 1 and len(unit.norms):
        new = LevelUnit(unit, levels)
    else:
        body.set_submodule(node.target, folded_conv(unit, 0))
        return node, None
    body.set_submodule(node.target, new)
    node.args = (node.args[0], selected)
    if unit.gate is None:
        return node, None
    with graph.inserting_after(node):
        mask = graph.call_function(operator.getitem, (node, 1))
        result = graph.call_function(operator.getitem, (node, 0))
    node.replace_all_uses_with(result, delete_user_cb=lambda user: user not in (mask, result))
    return result, mask


def masked_network(network):
    """The gated network on stock operators: (image, level int32 (1,)) -> (logits, open uint8 (N, sum of C_out))."""
    body = copy_body(network)
    graph = body.graph
    _, selected = put_level(body, len(network.densities))
    masks = []
    for node, unit in unit_nodes(body):
        _, mask = put_stock_unit(body, node, unit, network.densities, selected)
        if mask is not None:
            masks.append(mask)
    output = graph.output_node()
    if masks:  # a trunk may have none
        with graph.inserting_before(output):
            joined = graph.call_function(torch.cat, (masks, 1))
            opened = graph.call_method("to", (joined, torch.uint8))
        output.args = ((output.args[0], opened),)
    return finish(body)


def static_network(network, level, kept: dict[str, np.ndarray]):
    """The network with fixed masks, image -> logits: closed channels are removed, the scale per input stays.

    kept: for each gated layer the sorted channels that stay.
    """
    body = copy_body(network)
    graph = body.graph
    units = unit_nodes(body)
    shapes = output_shapes(body, network.shape)
    channels = {name: network.gates[name].out_channels for name in kept}
    closer = closers(graph, channels, shapes)
    scatter_where_needed(body, closer, channels, kept)
    for node, unit in units:
        source = node.args[0]
        kept_in = kept.get(input_gate(node, closer))
        if unit.gate is not None:
            new = StaticUnit(unit, level, kept[node.target], kept_in, is_non_negative(source))
        else:
            new = folded_conv(unit, level, None, kept_in)
        body.set_submodule(node.target, new)
    for node in graph.nodes:
        if kind_of(node) is Kind.LINEAR:
            name = input_gate(node, closer)
            if name is not None:
                body.set_submodule(node.target, narrowed(module_of(node), kept[name], channels[name]))
    return finish(body)


def scatter_where_needed(body, closer, channels, kept):
    """Insert a `Scatter` wherever kept channels alone flow into an operation that needs all of them (an add)."""
    graph = body.graph
    for node in list(graph.nodes):
        name = closer.get(node)
        if name is None:
            continue
        readers = [user for user in node.users if closer.get(user) != name and not reads_by_channel(user)]
        if not readers:
            continue
        target = f"scatter_{name.replace('.', '_')}"
        body.add_submodule(target, Scatter(kept[name], channels[name]))
        with graph.inserting_after(node):
            full = graph.call_module(target, (node,))
        for reader in readers:
            reader.replace_input_with(node, full)


@torch.no_grad()
def narrowed(linear, kept, channels):
    """A linear layer that reads the features of the kept channels only."""
    positions = linear.in_features // channels
    features = (torch.as_tensor(kept)[:, None] * positions + torch.arange(positions)).flatten()
    new = nn.Linear(len(features), linear.out_features, bias=linear.bias is not None)
    new.weight.copy_(linear.weight[:, features])
    if linear.bias is not None:
        new.bias.copy_(linear.bias)
    return new
