"""What an operation of a traced network is: its kind, and for convolutions and maxima its geometry.

One operation has several spellings, as a module of torch.nn, a function or a method of tensors. `tag` tells them apart
once, when a network is traced; everything behind it asks `kind_of`. A new kind is a member of `Kind`, its spellings in
the lists below, and what the passes that treat it say: `graph` for gates, `stacked`, `sliced`, and those of export.
Whatever is in no list is `Kind.OTHER`.
"""

import enum
import operator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import fx, nn

TAG = "operation"


class Kind(enum.Enum):
    """value: the name of the kind in messages."""

    INPUT = "input"
    TENSOR = "tensor of no layer"
    OUTPUT = "output"
    CONV = "convolution"  # with its norms and its gate, once the network is a gated one
    LINEAR = "linear layer"
    NORM = "batch norm"
    FEATURE_NORM = "batch norm of features"
    RELU = "ReLU"
    MAX_POOL = "max pooling"
    INDEXED_POOL = "max pooling with indices"
    AVG_POOL = "average pooling"
    GLOBAL_POOL = "mean over height and width"
    OTHER_MEAN = "mean"
    FLATTEN = "flatten"
    IDENTITY = "identity"
    DROPOUT = "dropout"
    ALPHA_DROPOUT = "alpha dropout"
    OTHER_DROPOUT = "dropout of rows or volumes"
    ADD = "add"
    CONCAT = "concatenation"
    PAD = "padding"
    INDEX = "index"
    SHAPE = "shape"
    OTHER = "unknown operation"


MODULES = {
    nn.Conv2d: Kind.CONV,
    nn.Linear: Kind.LINEAR,
    nn.BatchNorm2d: Kind.NORM,
    nn.modules.batchnorm._BatchNorm: Kind.FEATURE_NORM,
    nn.ReLU: Kind.RELU,
    nn.MaxPool2d: Kind.MAX_POOL,
    nn.AvgPool2d: Kind.AVG_POOL,
    nn.AdaptiveAvgPool2d: Kind.AVG_POOL,
    nn.Flatten: Kind.FLATTEN,
    nn.Identity: Kind.IDENTITY,
    nn.AlphaDropout: Kind.ALPHA_DROPOUT,
    nn.FeatureAlphaDropout: Kind.ALPHA_DROPOUT,
    nn.Dropout: Kind.DROPOUT,
    nn.Dropout2d: Kind.DROPOUT,
    nn.modules.dropout._DropoutNd: Kind.OTHER_DROPOUT,
    nn.ConstantPad2d: Kind.PAD,
    nn.ZeroPad2d: Kind.PAD,
}
FUNCTIONS = {
    Kind.RELU: (torch.relu, torch.relu_, F.relu, F.relu_),
    Kind.MAX_POOL: (F.max_pool2d, torch.max_pool2d),
    Kind.INDEXED_POOL: (F.max_pool2d_with_indices,),
    Kind.AVG_POOL: (F.avg_pool2d, F.adaptive_avg_pool2d),
    Kind.GLOBAL_POOL: (torch.mean,),
    Kind.FLATTEN: (torch.flatten, torch.reshape),
    Kind.DROPOUT: (F.dropout, F.dropout2d, torch.dropout, torch.dropout_, torch.feature_dropout,
                   torch.feature_dropout_),
    Kind.OTHER_DROPOUT: (F.dropout1d, F.dropout3d),
    Kind.ALPHA_DROPOUT: (F.alpha_dropout, F.feature_alpha_dropout, torch.alpha_dropout, torch.alpha_dropout_,
                         torch.feature_alpha_dropout, torch.feature_alpha_dropout_),
    Kind.ADD: (operator.add, operator.iadd, torch.add),
    Kind.CONCAT: (torch.cat, torch.concat, torch.concatenate),
    Kind.PAD: (F.pad,),
    Kind.INDEX: (operator.getitem,),
}  # fmt: skip
METHODS = {
    Kind.RELU: ("relu", "relu_"),
    Kind.GLOBAL_POOL: ("mean",),
    Kind.FLATTEN: ("flatten", "view", "reshape"),
    Kind.IDENTITY: ("contiguous",),
    Kind.ADD: ("add", "add_"),
    Kind.SHAPE: ("size",),
}
KIND_OF_FUNCTION = {function: kind for kind, functions in FUNCTIONS.items() for function in functions}
KIND_OF_METHOD = {method: kind for kind, methods in METHODS.items() for method in methods}
KIND_OF_NODE = {"placeholder": Kind.INPUT, "get_attr": Kind.TENSOR, "output": Kind.OUTPUT}

LAYERS = (Kind.CONV, Kind.LINEAR)  # what MACs are counted of
WITH_WEIGHTS = (*LAYERS, Kind.NORM, Kind.FEATURE_NORM)
DROPOUTS = (Kind.DROPOUT, Kind.ALPHA_DROPOUT, Kind.OTHER_DROPOUT)
# The order of the arguments of functions; methods have the same.
DROPOUT_ARGUMENTS = ("input", "p", "training", "inplace")
POOL_ARGUMENTS = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
ARGUMENTS = {
    Kind.RELU: ("input", "inplace"),
    Kind.MAX_POOL: POOL_ARGUMENTS,
    Kind.GLOBAL_POOL: ("input", "dim"),
    Kind.DROPOUT: DROPOUT_ARGUMENTS,
    Kind.ALPHA_DROPOUT: DROPOUT_ARGUMENTS,
    Kind.OTHER_DROPOUT: DROPOUT_ARGUMENTS,
    Kind.ADD: ("input", "other"),
    Kind.CONCAT: ("tensors", "dim"),
    Kind.PAD: ("input", "pad", "mode", "value"),
}


@dataclass(frozen=True)
class Geometry:
    """Of a convolution or a maximum over windows, rows and columns; padding: (before, after) of each."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]
    dilation: tuple[int, int]
    groups: int = 1
    padding_mode: str = "zeros"
    ceil: bool = False


@dataclass(frozen=True)
class Operation:
    """geometry: of a convolution, and of a maximum whose windows are numbers. in_place: it overwrites its input."""

    kind: Kind
    geometry: Geometry | None = None
    in_place: bool = False


UNKNOWN = Operation(Kind.OTHER)


def tag(traced):
    """Give each node of a traced network its `Operation`, and its tensors by position, however they were given."""
    for node in traced.graph.nodes:
        module = module_of(node)
        kind = spelled_kind(node, module)
        by_position(node, ARGUMENTS.get(kind, ("input",)))
        if node.target == "view" and kind is Kind.FLATTEN:
            node.target = "reshape"  # a map may lie in memory as no view can take it
        kind = finer(kind, node, module)
        node.meta[TAG] = Operation(kind, geometry(kind, node, module), is_in_place(kind, node, module))


def operation(node):
    """The `Operation` of a node; that of a node which a pass has put in is unknown."""
    return node.meta.get(TAG, UNKNOWN)


def kind_of(node):
    return operation(node).kind


def geometry_of(node):
    return operation(node).geometry


def module_of(node):
    """The module that a node calls; None for a node that calls none."""
    return node.graph.owning_module.get_submodule(node.target) if node.op == "call_module" else None


def label(node):
    """A node in messages: the name of its layer, or its own, and its kind."""
    name = node.target if node.op in ("call_module", "get_attr") else node.name
    return f"'{name}' ({kind_of(node).value})"


def operands(node):
    """The two operands of a plain add of two values of the graph, a + b; None for any other node."""
    if kind_of(node) is not Kind.ADD or len(node.args) != 2 or any(each != 1 for each in node.kwargs.values()):
        return None
    return node.args if all(isinstance(each, fx.Node) for each in node.args) else None


def overwrites(node):
    """Whether a node changes in place what other nodes read too: nothing may take the place of its input then."""
    return operation(node).in_place and bool(node.all_input_nodes) and len(node.all_input_nodes[0].users) > 1


def arguments(node):
    """The arguments of a function or method of a known kind by name."""
    return named(node, ARGUMENTS[kind_of(node)])


def named(node, names):
    """The arguments of a node by name; names: in the order of positions."""
    return dict(zip(names, node.args, strict=False)) | dict(node.kwargs)


def spelled_kind(node, module):
    """The kind by the spelling alone."""
    if node.op == "call_module":
        return next((MODULES[each] for each in type(module).__mro__ if each in MODULES), Kind.OTHER)
    if node.op == "call_method":
        of_bits = any(isinstance(each, torch.dtype) for each in (*node.args, *node.kwargs.values()))
        return Kind.OTHER if node.target == "view" and of_bits else KIND_OF_METHOD.get(node.target, Kind.OTHER)
    if node.op == "call_function":
        if node.target is getattr:
            return Kind.SHAPE if node.args[1] == "shape" else Kind.OTHER
        return KIND_OF_FUNCTION.get(node.target, Kind.OTHER)
    return KIND_OF_NODE[node.op]


def by_position(node, names):
    """Move the tensors that a node was given by name to their positions; names: of the arguments, in order."""
    given = dict(node.kwargs)
    for name in names[len(node.args) :]:
        if name not in ("input", "other", "tensors") or name not in given:
            break
        node.args += (given.pop(name),)
    if len(given) < len(node.kwargs):
        node.kwargs = given


def finer(kind, node, module):
    """The kind by arguments too."""
    if kind is Kind.GLOBAL_POOL:
        given = named(node, ARGUMENTS[kind])
        dims = given.get("dim", given.get("axis"))
        dims = (dims,) if isinstance(dims, int) else dims or ()
        whole = all(isinstance(dim, int) for dim in dims) and {dim % 4 for dim in dims} == {2, 3}
        return kind if whole else Kind.OTHER_MEAN
    if kind is Kind.MAX_POOL:
        given = named(node, POOL_ARGUMENTS) if module is None else vars(module)
        return Kind.INDEXED_POOL if given.get("return_indices") else kind
    return kind


def is_in_place(kind, node, module):
    if module is not None:
        return bool(getattr(module, "inplace", False))
    if node.op not in ("call_function", "call_method"):
        return False
    name = node.target if node.op == "call_method" else getattr(node.target, "__name__", "")
    if node.target is operator.iadd or (name.endswith("_") and not name.endswith("__")):
        return True
    return bool(named(node, ARGUMENTS.get(kind, ())).get("inplace", False))


def geometry(kind, node, module):
    if kind is Kind.CONV:
        return conv_geometry(module)
    if kind is not Kind.MAX_POOL:
        return None
    given = named(node, POOL_ARGUMENTS) if module is None else vars(module)
    kernel = given["kernel_size"]
    sides = (kernel, given.get("stride") or kernel, given.get("padding", 0), given.get("dilation", 1))
    kernel, stride, padding, dilation = (pair(side) for side in sides)
    if not all(isinstance(each, int) for each in (*kernel, *stride, *padding, *dilation)):
        return None
    padding = tuple((side, side) for side in padding)
    return Geometry(kernel, stride, padding, dilation, ceil=bool(given.get("ceil_mode", False)))


def conv_geometry(conv):
    """The `Geometry` of an `nn.Conv2d`."""
    kernel, dilation = tuple(conv.kernel_size), tuple(conv.dilation)
    if conv.padding == "same":  # the odd one goes behind, as in PyTorch
        total = [gap * (side - 1) for gap, side in zip(dilation, kernel, strict=True)]
        padding = tuple((sides // 2, sides - sides // 2) for sides in total)
    else:
        padding = tuple((side, side) for side in ((0, 0) if conv.padding == "valid" else conv.padding))
    return Geometry(kernel, tuple(conv.stride), padding, dilation, conv.groups, conv.padding_mode)


def pair(side):
    """A side of a window or two: (rows, columns)."""
    if isinstance(side, tuple | list):
        return tuple(side) * (2 // len(side)) if len(side) in (1, 2) else tuple(side)
    return (side, side)
