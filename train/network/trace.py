"""A network's computation as torch.fx graphs: one of evaluation and, where the two differ, one of training.

Tracing runs a forward once, so `self.training`, whatever it decides, has one value in a graph.
"""

import copy
import inspect

import torch.nn.functional as F
from torch import fx, nn

from fedgate.device_runtime.errors import UsageError

from .gated_conv import batch_norm
from .graph import check, check_plain
from .operations import DROPOUTS, WITH_WEIGHTS, arguments, kind_of, module_of, tag


def trace(module, gated=True):
    """(graph module of evaluation, graph module of training or None where it is the same) of a copy of a network.

    gated: whether channels are to be gated, which few operations allow.
    Raises `UsageError` that names the layer which is not supported.
    """
    module = copy.deepcopy(module)
    evaluation, training = (traced_as(module.train(mode), gated) for mode in (False, True))
    for traced, mode in ((evaluation, False), (training, True)):
        drop_dropouts(traced, mode)
    for traced in (evaluation, training):
        called = set()
        for node in traced.graph.nodes:
            target = module_of(node)
            if target is not None and node.target in called:
                check_shared(node, target, gated)
            called.add(node.target)
            (check if gated else check_plain)(node)
    same = signature(evaluation) == signature(training)
    return evaluation.train(), None if same else training.train()


def traced_as(module, gated):
    try:
        traced = fx.symbolic_trace(module)
    except Exception as error:  # it is a user's code that runs here
        name = type(module).__name__
        verb = "gate" if gated else "use"
        raise UsageError(
            f"cannot {verb} {name}: its forward cannot be traced: {' '.join(str(error).split())}"
        ) from error
    for node in traced.graph.nodes:
        if node.target is F.batch_norm:
            node.target = batch_norm
    tag(traced)
    return traced


def drop_dropouts(traced, training):
    """Take functions that drop out nothing from a graph. Refuses one that drops out in evaluation."""
    for node in list(traced.graph.nodes):
        if node.op != "call_function" or kind_of(node) not in DROPOUTS:
            continue
        given = arguments(node)
        acts = given.get("training", given.get("train", usual(node.target)))
        if acts and given.get("p", 0.5) > 0:
            if not training:
                raise UsageError(f"'{node.name}' drops out at random in evaluation too: give it training=self.training")
            continue
        node.replace_all_uses_with(given["input"])
        traced.graph.erase_node(node)
    traced.recompile()


def usual(function):
    """Whether a dropout function acts where it is not told."""
    try:
        return inspect.signature(function).parameters["training"].default
    except (ValueError, KeyError):  # of torch itself, which have to be told
        return True


def check_shared(node, module, gated):
    """Refuse a layer that is used twice, as its channels have one mask, and its norm one input."""
    if kind_of(node) in WITH_WEIGHTS or (gated and any(True for _ in module.parameters())):
        if gated:
            raise UsageError(f"cannot gate layer '{node.target}': it is used more than once")
        raise UsageError(f"layer '{node.target}' is used more than once: give each use a layer of its own")


def signature(traced):
    """What a graph computes, but for the names of its nodes; constants that a forward makes are told by value."""
    place = {node: i for i, node in enumerate(traced.graph.nodes)}
    found = []
    for node in place:
        target = node.target
        if node.op == "get_attr" and target.startswith("_tensor_constant"):
            target = getattr(traced, target).tolist()
        arguments = fx.node.map_aggregate(
            (node.args, dict(node.kwargs)), lambda a: ("node", place[a]) if isinstance(a, fx.Node) else a
        )
        found.append((node.op, target, repr(arguments)))
    return found


def compiled(graph):
    """A graph as a function of the module that has its layers, and of its inputs."""
    code = graph.python_code("self")
    exec(compile(code.src, "<training graph>", "exec"), code.globals)
    return code.globals["forward"]


def lend(body, training):
    """Give the graph module of evaluation what of the training one's tensors and modules it does not use itself."""
    for node in training.graph.nodes:
        if node.op == "call_module":
            try:
                body.get_submodule(node.target)
            except AttributeError:
                body.add_submodule(node.target, training.get_submodule(node.target))
        elif node.op == "get_attr":
            *folders, name = node.target.split(".")
            source, owner = training, body
            for folder in folders:
                if not hasattr(owner, folder):
                    owner.add_module(folder, nn.Module())
                source, owner = getattr(source, folder), getattr(owner, folder)
            if not hasattr(owner, name):
                value = getattr(source, name)
                if isinstance(value, nn.Parameter):
                    owner.register_parameter(name, value)
                else:
                    owner.register_buffer(name, value)
