"""What a traced network means for gating: which of its operations keep channels apart, which convolutions are gated,
and whose mask closes the input channels of which layer.
"""

from torch import fx

from fedgate.device_runtime.errors import UsageError

from .operations import Kind, geometry_of, kind_of, module_of

# Operations that act on each channel by itself and map a channel of zeros to zeros: what a gate closed stays closed.
CHANNELWISE = (Kind.RELU, Kind.MAX_POOL, Kind.AVG_POOL, Kind.GLOBAL_POOL, Kind.FLATTEN, Kind.DROPOUT, Kind.IDENTITY)
# Operations that may mix or move channels, or whose closed channels are not zero: their result counts as a dense input.
MIXING = (Kind.ADD, Kind.CONCAT, Kind.PAD, Kind.INDEX, Kind.SHAPE, Kind.ALPHA_DROPOUT, Kind.INDEXED_POOL)
NEITHER = (Kind.INPUT, Kind.TENSOR, Kind.OUTPUT, Kind.LINEAR)


def check(node):
    """Refuse, by name, an operation of a traced network whose channels a gate could not close."""
    kind = kind_of(node)
    if kind is Kind.CONV:
        check_conv(node)
    elif kind is Kind.NORM:
        check_norm(node)
    elif kind is Kind.OTHER_MEAN:
        raise UsageError(f"cannot gate around '{node.name}': a mean is taken over H and W, nothing else")
    elif kind not in (*CHANNELWISE, *MIXING, *NEITHER):
        if node.op == "call_method":
            raise UsageError(f"cannot gate around the method '{node.target}' (at '{node.name}')")
        if node.op == "call_function":
            name = getattr(node.target, "__name__", node.target)
            raise UsageError(f"cannot gate around the function '{name}' (at '{node.name}')")
        raise UsageError(
            f"cannot gate layer '{node.target}': a {type(module_of(node)).__name__} is not a convolution, batch norm, "
            "ReLU, pooling or linear layer, so a closed channel would not stay closed"
        )


def check_conv(node):
    geometry = geometry_of(node)
    if geometry.groups != 1:
        raise UsageError(f"cannot gate layer '{node.target}': Conv2d with groups={geometry.groups}")
    if geometry.padding_mode != "zeros":
        raise UsageError(f"cannot gate layer '{node.target}': Conv2d pads with '{geometry.padding_mode}', not zeros")


def check_norm(node):
    module, source = module_of(node), node.args[0]
    if not (module.affine and module.track_running_stats):
        raise UsageError(f"cannot gate layer '{node.target}': a batch norm without scale, shift or running statistics")
    if kind_of(source) is not Kind.CONV:
        raise UsageError(f"cannot gate layer '{node.target}': a norm must follow a convolution directly")
    if len(source.users) != 1:
        raise UsageError(f"cannot gate layer '{source.target}': its output is used before its norm")


def check_plain(node):
    """Refuse, by name, what a network without gates cannot have: little."""
    if kind_of(node) in (Kind.NORM, Kind.FEATURE_NORM) and not module_of(node).track_running_stats:
        raise UsageError(
            f"layer '{node.target}' keeps no running statistics: what it makes of an image depends on the others"
        )


def is_conv(node):
    return kind_of(node) is Kind.CONV


def norm_of(node):
    """The node of the norm that goes with a convolution's: directly behind it, and reading nothing else; or None."""
    norm = next(iter(node.users)) if len(node.users) == 1 else None
    if norm is None or kind_of(norm) is not Kind.NORM:
        return None
    return norm if module_of(norm).affine and norm.args[0] is node else None


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
        if kind_of(node) is not Kind.ADD:
            continue
        operands = [i for i in node.args[:2] if isinstance(i, fx.Node)]
        for operand in operands:
            conv = operand.args[0] if kind_of(operand) is Kind.NORM else operand
            deeper = any(depth[other] > depth[operand] for other in operands)
            if is_conv(conv) and geometry_of(conv).kernel == (1, 1) and deeper:
                names.add(conv.target)
    return names


def logits_convs(graph):
    """Names of the convolutions between which and the output there is no other layer: their channels are logits."""
    names, seen, left = set(), set(), list(graph.output_node().all_input_nodes)
    while left:
        node = left.pop()
        if node in seen or kind_of(node) is Kind.LINEAR:
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
        kind, source = kind_of(node), None
        if kind is Kind.CONV:
            source = node.target if node.target in gated else None
        elif kind in (Kind.NORM, *CHANNELWISE):
            source = closer.get(node.args[0])
        if source is not None and not keeps_channels(shapes[node], gated[source]):
            source = None
        closer[node] = source
    return closer


def reads_by_channel(node):
    """Whether a node is a layer that has weights of its own for each channel of its input: what is closed is not read.

    A convolution with groups has them for the channels of one group.
    """
    kind = kind_of(node)
    return kind is Kind.LINEAR or (kind is Kind.CONV and geometry_of(node).groups == 1)


def input_gate(node, closer):
    """The gated layer whose mask closes input channels of a layer, or None; closer: by `closers`."""
    return closer.get(node.args[0]) if reads_by_channel(node) else None


def keeps_channels(shape, channels):
    """Whether a result of a shape can still hold `channels` channels in order: a map, or a flattened one."""
    if len(shape) == 4:
        return shape[1] == channels
    return len(shape) == 2 and shape[1] % channels == 0
