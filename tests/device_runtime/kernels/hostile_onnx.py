"""Hostile calls of ONNX Runtime's operators: `run(call)` writes a program of one node, and lets a session run it."""

import onnx
import onnxruntime
from hostile import ATTRIBUTES, CONSTANTS, GATE, INPUTS, judge
from onnx import TensorProto, helper, numpy_helper

from fedgate.device_runtime.kernels.build import find

_options = onnxruntime.SessionOptions()
_options.intra_op_num_threads = 1
_options.log_severity_level = 4
_options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
# each tensor an allocation of its own, so that a sanitizer sees what is touched beyond
_options.enable_cpu_mem_arena = _options.enable_mem_pattern = False
_options.register_custom_ops_library(str(find("onnx")))
_opsets = [helper.make_opsetid("", 18), helper.make_opsetid("fedgate", 1)]


def run(call) -> bool:
    """Make the call, and judge what comes back; whether it was refused."""
    graph = onnx.GraphProto(name="hostile")
    node = graph.node.add(op_type="gated_conv2d" if call.gated else "conv2d", domain="fedgate")
    feeds, variable = {}, call.tricks.get("variable")
    for name in INPUTS[:7] + (GATE if call.gated else ()):
        array = call.inputs[name]
        if array is None:
            node.input.append("")
            continue
        node.input.append(name)
        # what may change is a constant now and then
        if (name in CONSTANTS or (call.seed + len(name)) % 5 == 0) and name != variable:
            graph.initializer.append(numpy_helper.from_array(array, name))
        else:
            feeds[name] = array
            graph.input.append(
                helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            )
    while node.input and not node.input[-1]:  # as writers leave out what is not there at the end
        del node.input[-1]
    node.attribute.extend(helper.make_attribute(name, call.attributes[name]) for name in ATTRIBUTES)
    outputs = ["y", "open"] if call.gated else ["y"]
    node.output.extend(outputs)
    types = {"y": TensorProto.FLOAT, "open": TensorProto.UINT8}
    graph.output.extend(helper.make_tensor_value_info(name, types[name], None) for name in outputs)
    for trick, argument in call.tricks.items():
        APPLY[trick](graph, node, argument)
    model = onnx.ModelProto(ir_version=9, graph=graph, opset_import=_opsets)
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), _options, providers=["CPUExecutionProvider"])
        results = session.run(outputs, feeds)
    except Exception:
        return True
    judge(call, results[0], results[1] if call.gated else None)
    return False


def _constant(call, rng):
    names = [name for name in CONSTANTS if call.inputs[name] is not None and (call.gated or name not in GATE)]
    return names[rng.integers(len(names))] if names else None


def variable(call, rng):
    """A constant that the caller gives."""
    name = _constant(call, rng)
    if name:
        call.tricks["variable"] = name
        return f"{name} a variable"
    return None


def overridable(call, rng):
    """A constant that the caller may overwrite."""
    name = _constant(call, rng)
    if name:
        call.tricks["overridable"] = name
        return f"{name} may be overwritten"
    return None


def shortened(call, rng):
    name = _constant(call, rng)
    if name is None or not call.inputs[name].size:
        return None
    call.tricks["shortened"] = name, int(rng.integers(1, call.inputs[name].nbytes + 1))
    return f"{name} shortened"


def other_attribute(call, rng):
    name = ATTRIBUTES[rng.integers(len(ATTRIBUTES))]
    call.tricks["other_attribute"] = name, (None, 1.0, "1", [1], [1.0])[rng.integers(5)]
    return f"{name} = {call.tricks['other_attribute'][1]!r}"


def more_inputs(call, rng):
    call.tricks["more_inputs"] = int(rng.integers(1, 5))
    return "more inputs"


def fewer_outputs(call, rng):
    call.tricks["fewer_outputs"] = int(rng.integers(2))
    return "fewer outputs" if call.tricks["fewer_outputs"] else "more outputs"


DECLARES = False  # outputs are what the operator makes
TRICKS = (variable, overridable, shortened, other_attribute, more_inputs, fewer_outputs)


def _apply_overridable(graph, node, name):
    found = [tensor for tensor in graph.initializer if tensor.name == name]
    if not found:
        return _meaningless(node)
    graph.input.append(helper.make_tensor_value_info(name, found[0].data_type, found[0].dims))
    return None


def _apply_shortened(graph, node, argument):
    name, count = argument
    found = [tensor for tensor in graph.initializer if tensor.name == name]
    if not found:
        return _meaningless(node)
    found[0].raw_data = found[0].raw_data[:-count]
    return None


def _apply_other_attribute(graph, node, argument):
    name, value = argument
    found = [attribute for attribute in node.attribute if attribute.name == name]
    for attribute in found:
        node.attribute.remove(attribute)
    if value is not None:
        node.attribute.append(helper.make_attribute(name, value))


def _apply_more_inputs(graph, node, count):
    node.input.extend([""] * (10 - len(node.input)) + ["x"] * count)


def _apply_fewer_outputs(graph, node, fewer):
    if fewer:
        del node.output[-1]
    else:
        node.output.extend(["third", "fourth"])


def _meaningless(node):
    """Where another change has left a trick nothing to do: as unlawful as it."""
    node.op_type = "nothing"


APPLY = {
    "variable": lambda graph, node, name: None if name in node.input else _meaningless(node),
    "overridable": _apply_overridable,
    "shortened": _apply_shortened,
    "other_attribute": _apply_other_attribute,
    "more_inputs": _apply_more_inputs,
    "fewer_outputs": _apply_fewer_outputs,
}
