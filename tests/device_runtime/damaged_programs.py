"""Programs that a runtime cannot be trusted with: real ones with wrong bytes, wrong structure or unknown operators."""

import flatbuffers
import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from onnx import TensorProto, helper

EDGES = (-(2**31), -1, 0, 1, 2, 3, 7, 100, 10**6, 2**31 - 1)


def wrong_bytes(data: bytes, draw: np.random.Generator) -> bytes:
    """Some bytes anywhere or in the head, or a run of one value, or the end missing."""
    data, size = bytearray(data), len(data)
    kind = draw.integers(5)
    if kind == 0:
        del data[draw.integers(1, size) :]
    elif kind == 1:
        start = draw.integers(size)
        stop = min(size, start + draw.integers(1, 512))
        data[start:stop] = bytes([draw.choice([0, 127, 128, 255])]) * (stop - start)
    else:
        most, reach = {2: (4, size), 3: (200, size), 4: (8, min(size, 2000))}[kind]
        for at in draw.integers(0, reach, draw.integers(1, most)):
            data[at] = draw.integers(256)
    return bytes(data)


def wrong_structure(runtime: str, data: bytes, draw: np.random.Generator) -> bytes:
    """A well-formed file whose graph makes no sense; for ExecuTorch, whose schema has no writer here, wrong bytes."""
    change = {"litert": _litert_edit, "onnx": _onnx_edit}.get(runtime)
    return wrong_bytes(data, draw) if change is None else change(data, draw)


def edit_litert(data: bytes, change) -> bytes:
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    change(model)
    builder = flatbuffers.Builder(len(data))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _litert_edit(data, draw):
    def change(model):
        graph = model.subgraphs[0]
        for _ in range(draw.integers(1, 4)):
            tensor, operator = draw.choice(graph.tensors), draw.choice(graph.operators)
            kind = draw.integers(6)
            if kind == 0 and tensor.shape is not None and len(tensor.shape):
                tensor.shape = _one_changed(tensor.shape, draw.choice(EDGES), draw)
            elif kind == 1:
                tensor.type = int(draw.integers(12))
            elif kind == 2:
                tensor.buffer = int(draw.integers(len(model.buffers)))
            elif kind == 3:
                operator.inputs = _one_changed(operator.inputs, draw.integers(len(graph.tensors)), draw)
            elif kind == 4:
                operator.opcodeIndex = int(draw.integers(len(model.operatorCodes)))
            else:
                buffer = draw.choice([b for b in model.buffers if b.data is not None and len(b.data) >= 4])
                numbers = np.array(buffer.data[: len(buffer.data) // 4 * 4]).view(np.int32)
                buffer.data = _one_changed(numbers, draw.choice(EDGES), draw).view(np.uint8)

    return edit_litert(data, change)


def _onnx_edit(data, draw):
    model = onnx.load_from_string(data)
    graph = model.graph
    for _ in range(draw.integers(1, 4)):
        node, constant = draw.choice(list(graph.node)), draw.choice(list(graph.initializer))
        kind = draw.integers(5)
        if kind == 0:
            constant.dims[:] = [int(draw.choice(EDGES)), *constant.dims[1:]]
        elif kind == 1 and len(constant.raw_data) >= 4:
            numbers = np.frombuffer(constant.raw_data[: len(constant.raw_data) // 4 * 4], np.int32)
            constant.raw_data = _one_changed(numbers, draw.choice(EDGES), draw).tobytes()
        elif kind == 2:
            node.input[draw.integers(len(node.input))] = draw.choice([n for o in graph.node for n in o.output])
        elif kind == 3:
            node.op_type = draw.choice([other.op_type for other in graph.node])
        elif node.attribute:
            attribute = node.attribute[draw.integers(len(node.attribute))]
            attribute.i = int(draw.choice(EDGES))
            attribute.ints[:] = [int(draw.choice(EDGES)) for _ in attribute.ints]
    return model.SerializeToString()


def _one_changed(numbers, value, draw):
    changed = np.array(numbers)
    changed[draw.integers(len(changed))] = value
    return changed


def crashing_litert(data: bytes) -> bytes:
    """A LiteRT program that writes a result over a constant, which lies in a file mapped for reading alone."""

    def change(model):
        graph = model.subgraphs[0]
        codes = [code.builtinCode for code in model.operatorCodes]
        operator = next(
            operator
            for operator in graph.operators
            if codes[operator.opcodeIndex] == schema.BuiltinOperator.LOGICAL_AND
        )
        graph.tensors[operator.outputs[0]].buffer = graph.tensors[operator.inputs[1]].buffer

    return edit_litert(data, change)


def unknown_operator(runtime: str, data: bytes) -> tuple[bytes, str]:
    """The program with an operator that no runtime has, and its name."""
    if runtime == "executorch":  # of the same length, so that the file stays whole
        assert data.count(b"aten::sum") == 1
        return data.replace(b"aten::sum", b"aten::suM"), "aten::suM"
    if runtime == "onnx":
        model = onnx.load_from_string(data)
        model.graph.node[0].op_type = "Convolute"
        return model.SerializeToString(), "Convolute"

    def change(model):
        code = model.operatorCodes[0]
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
        code.customCode = b"Convolute"

    return edit_litert(data, change), "Convolute"


def endless_onnx() -> bytes:
    """A program of the tiny bundle's dense shape whose loop never ends."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["still"]), helper.make_node("Abs", ["x"], ["y"])],
        "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, [])]
        + [helper.make_tensor_value_info(n, t, s) for n, t, s in (("go", 9, []), ("x", 1, [1, 5]))],
        [helper.make_tensor_value_info(n, t, s) for n, t, s in (("still", 9, []), ("y", 1, [1, 5]))],
    )
    graph = helper.make_graph(
        [
            helper.make_node("Slice", ["image", "start", "stop"], ["few"]),
            helper.make_node("Reshape", ["few", "shape"], ["first"]),
            helper.make_node("Loop", ["", "yes", "first"], ["logits"], body=body),
        ],
        "endless",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 5])],
        [
            helper.make_tensor("start", TensorProto.INT64, [4], [0, 0, 0, 0]),
            helper.make_tensor("stop", TensorProto.INT64, [4], [1, 1, 1, 5]),
            helper.make_tensor("shape", TensorProto.INT64, [2], [1, 5]),
            helper.make_tensor("yes", TensorProto.BOOL, [], [True]),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()
