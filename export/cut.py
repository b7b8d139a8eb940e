"""Where a network is cut in two: a trunk, which stays as it is and is folded, and a tail, which a device trains."""

import copy
from dataclasses import dataclass

from torch import fx

from fedgate.device_runtime.errors import UsageError
from fedgate.train.network.build import GatedNetwork, output_shapes
from fedgate.train.network.operations import LAYERS, Kind, kind_of
from fedgate.train.network.tails import trunk


@dataclass(frozen=True)
class Cut:
    """node: the name of the graph's node whose value the tail reads. features: its shape for one example.

    layers: names of the tail's layers, the last of the network's.
    """

    trainable: str
    node: str
    features: tuple[int, ...]
    layers: tuple[str, ...]


def cut_network(network: GatedNetwork, trainable) -> Cut:
    """The cut before the layers that `--trainable` trains; as far down as all that they read is one value.

    Raises `UsageError` for a network that has no such place.
    """
    frozen = trunk(network.layers, trainable)
    names = [layer.name for layer in network.layers]
    tail = tuple(name for name in names if name not in frozen)
    if len(tail) == len(names):
        raise UsageError(f"--trainable {trainable}: all layers of this network are in its {trainable}; nothing is left")
    if tail != tuple(names[-len(tail) :]):
        raise UsageError(f"--trainable {trainable}: this network's {trainable} is not the last of its layers")
    place = cut_node(network.body.graph, set(tail))
    if place is None:
        raise UsageError(f"--trainable {trainable}: the tail reads more than one value of the trunk")
    return Cut(trainable, place.name, output_shapes(network.body, network.shape)[place][1:], tail)


def cut_node(graph, tail):
    """The last node through which alone the image reaches the tail's layers; None where there is no such node."""
    nodes = list(graph.nodes)
    found = None
    for place in nodes:
        if kind_of(place) is Kind.OUTPUT or (kind_of(place) in LAYERS and place.target in tail):
            break
        if kind_of(place) is not Kind.TENSOR and separates(nodes, place, tail):
            found = place
    return None if found is None or kind_of(found) is Kind.INPUT else found


def separates(nodes, place, tail):
    """Whether what follows a node depends on the image through it alone, and is of the tail where it is a layer."""
    before = set(nodes[: nodes.index(place)])
    for node in nodes[nodes.index(place) + 1 :]:
        if any(source in before and kind_of(source) is not Kind.TENSOR for source in node.all_input_nodes):
            return False
        if kind_of(node) in LAYERS and node.target not in tail:
            return False
    return True


def trunk_network(network: GatedNetwork, cut: Cut) -> GatedNetwork:
    """The trunk as a network of its own: images (N, C, H, W) -> features (N, ...)."""
    network.forget()
    body = copy.deepcopy(network.body)
    place = next(node for node in body.graph.nodes if node.name == cut.node)
    body.graph.output_node().args = (place,)
    body.graph.eliminate_dead_code()
    body.delete_all_unused_submodules()
    body.recompile()
    layers = [layer for layer in network.layers if layer.name not in cut.layers]
    return GatedNetwork(body, layers, network.gate, network.densities, network.shape).eval()


def tail_nodes(network: GatedNetwork, cut: Cut) -> tuple[fx.Node, list[fx.Node]]:
    """The node whose value the tail reads, and the nodes that compute the tail, in order."""
    nodes = list(network.body.graph.nodes)
    (at,) = [i for i, node in enumerate(nodes) if node.name == cut.node]
    return nodes[at], nodes[at + 1 :]
