"""What a traced network means for gating: which of its operations keep channels apart, which convolutions are gated,
and whose mask closes the input channels of which layer.
"""

import operator

import torch
import torch.nn.functional as F
from torch import fx, nn

from fedgate.device_runtime.errors import UsageError

# Operations that act on each channel by itself and map a channel of zeros to zeros: what a gate closed stays closed.
CHANNELWISE_MODULES = (
    nn.ReLU,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.Flatten,
    nn.Dropout,
    nn.Dropout2d,
    nn.Identity,
)
CHANNELWISE_FUNCTIONS = (torch.relu, F.relu, F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d, torch.mean,
                         torch.flatten, F.dropout, F.dropout2d, torch.dropout, torch.feature_dropout)  # fmt: skip
CHANNELWISE_METHODS = ("relu", "relu_", "mean", "flatten", "view", "reshape", "contiguous")
# Operations that may mix or move channels: their result counts as a dense input.
OTHER_MODULES = (nn.AlphaDropout, nn.FeatureAlphaDropout)  # what they drop is not zero
OTHER_FUNCTIONS = (operator.add, operator.iadd, torch.add, F.pad, operator.getitem, F.alpha_dropout,
                   F.feature_alpha_dropout, torch.alpha_dropout, torch.feature_alpha_dropout)  # fmt: skip
OTHER_METHODS = ("add", "add_", "size")


def module_of(node):
    """The module that a node calls; None for a node that calls none."""
    return node.graph.owning_module.get_submodule(node.target) if node.op == "call_module" else None


def check(node, module):
    """Refuse, by name, an operation of the graph whose channels a gate could not close."""
    if node.op in ("placeholder", "output", "get_attr"):
        return
    if node.target in (torch.mean, "mean"):
        dims = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
        dims = (dims,) if isinstance(dims, int) else dims
        if dims is None or {d % 4 for d in dims} != {2, 3}:
            raise UsageError(f"cannot gate around '{node.name}': a mean is taken over H and W, nothing else")
    if node.op == "call_method":
        if node.target not in CHANNELWISE_METHODS + OTHER_METHODS:
            raise UsageError(f"cannot gate around the method '{node.target}' (at '{node.name}')")
        return
    if node.op == "call_function":
        if node.target is getattr and node.args[1] == "shape":
            return
        if node.target not in CHANNELWISE_FUNCTIONS + OTHER_FUNCTIONS:
            name = getattr(node.target, "__name__", node.target)
            raise UsageError(f"cannot gate around the function '{name}' (at '{node.name}')")
        return
    kind = type(module).__name__
    if isinstance(module, nn.Conv2d):
        if module.groups != 1:
            raise UsageError(f"cannot gate layer '{node.target}': {kind} with groups={module.groups}")
        if module.padding_mode != "zeros":
            raise UsageError(f"cannot gate layer '{node.target}': {kind} pads with '{module.padding_mode}', not zeros")
    elif isinstance(module, nn.BatchNorm2d):
        if not (module.affine and module.track_running_stats):
            raise UsageError(f"cannot gate layer '{node.target}': {kind} without scale, shift or running statistics")
        source = node.args[0]
        if not is_conv(source):
            raise UsageError(f"cannot gate layer '{node.target}': a norm must follow a convolution directly")
        if len(source.users) != 1:
            raise UsageError(f"cannot gate layer '{source.target}': its output is used before its norm")
    elif not isinstance(module, (*CHANNELWISE_MODULES, *OTHER_MODULES, nn.Linear)):
        raise UsageError(
            f"cannot gate layer '{node.target}': a {kind} is not a convolution, batch norm, ReLU, pooling or linear "
            "layer, so a closed channel would not stay closed"
        )


def check_plain(node, module):
    """Refuse, by name, what a network without gates cannot have: little."""
    if isinstance(module, nn.modules.batchnorm._BatchNorm) and not module.track_running_stats:
        raise UsageError(
            f"layer '{node.target}' keeps no running statistics: what it makes of an image depends on the others"
        )


def is_conv(node):
    return isinstance(module_of(node), nn.Conv2d)


def is_norm(node):
    return isinstance(module_of(node), nn.BatchNorm2d)


def norm_of(node):
    """The node of the norm that goes with a convolution's: directly behind it, and reading nothing else; or None."""
    norm = next(iter(node.users)) if len(node.users) == 1 else None
    module = None if norm is None else module_of(norm)
    return norm if isinstance(module, nn.BatchNorm2d) and module.affine and norm.args[0] is node else None


def conv_depth(graph):
    """Number of convolutions on the longest path from the input to each node, itself included."""
    depth = {}
    for node in graph.nodes:
        before = max((depth[i] for i in node.all_input_nodes), default=0)
        depth[node] = before + is_conv(node)
    return depth


def ungated_convs(graph):
    """Names of the convolutions that keep all their channels: stems, logits, projection shortcuts of residual adds.

    A stem reads the network's input. A projection is a 1x1 convolution that goes, through its norm alone, into an add
    whose other operand has passed through more convolutions. Logits are what no other layer reads.
    """
    depth = conv_depth(graph)
    names = {node.target for node in graph.nodes if is_conv(node) and depth[node] == 1} | logits_convs(graph)
    for node in graph.nodes:
        if node.target not in (operator.add, operator.iadd, torch.add, "add", "add_"):
            continue
        operands = [i for i in node.args[:2] if isinstance(i, fx.Node)]
        for operand in operands:
            conv = operand.args[0] if is_norm(operand) else operand
            deeper = any(depth[other] > depth[operand] for other in operands)
            if is_conv(conv) and module_of(conv).kernel_size == (1, 1) and deeper:
                names.add(conv.target)
    return names


def logits_convs(graph):
    """Names of the convolutions between which and the output there is no other layer: their channels are logits."""
    names, seen, left = set(), set(), list(graph.output_node().all_input_nodes)
    while left:
        node = left.pop()
        if node in seen or isinstance(module_of(node), nn.Linear):
            continue
        seen.add(node)
        if is_conv(node):
            names.add(node.target)
        else:
            left += node.all_input_nodes
    return names


def closers(graph, gated, shapes):
    """For each node, the gated layer whose mask closes the node's channels, or None.

    gated: C_out of each gated convolution, by name. shapes: of each node's output. Feature i of a flattened layer of
    C channels and F features belongs to channel i // (F / C).
    """
    closer = {}
    for node in graph.nodes:
        source = closer.get(node.args[0]) if node.args and isinstance(node.args[0], fx.Node) else None
        if node.op == "call_module":
            if node.target in gated:
                source = node.target
            elif not isinstance(module_of(node), (*CHANNELWISE_MODULES, nn.BatchNorm2d)):
                source = None
        elif node.op == "call_function":
            source = source if node.target in CHANNELWISE_FUNCTIONS else None
        elif node.op == "call_method":
            source = source if node.target in CHANNELWISE_METHODS else None
        if source is not None and not keeps_channels(shapes[node], gated[source]):
            source = None
        closer[node] = source
    return closer


def keeps_channels(shape, channels):
    """Whether a result of a shape can still hold `channels` channels in order: a map, or a flattened one."""
    if len(shape) == 4:
        return shape[1] == channels
    return len(shape) == 2 and shape[1] % channels == 0
