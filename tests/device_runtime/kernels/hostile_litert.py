"""Hostile calls of LiteRT's delegate: `run(call)` writes a model of one node, and lets an interpreter run it."""

import ctypes

import flatbuffers
import numpy as np
from ai_edge_litert import interpreter
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers
from hostile import ATTRIBUTES, CONSTANTS, GATE, judge

from fedgate.device_runtime.kernels.build import find

TYPES = {
    "float32": "FLOAT32", "int32": "INT32", "uint8": "UINT8", "float64": "FLOAT64", "int64": "INT64",
    "float16": "FLOAT16", "int8": "INT8", "bool": "BOOL",
}  # fmt: skip
# the order of a node's inputs: the residual is the last
ORDER = ("x", "weight", "scale", "shift", "level", "in_open", "gate_weight", "gate_bias", "kept", "residual")
_library = str(find("litert"))
_delegates = [interpreter.load_delegate(_library, {"threads": str(threads)}) for threads in (1, 2)]
_resolver = interpreter.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES


class Model:
    """A model of the schema's object API, and what it is fed with."""

    def __init__(self, call):
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.buffers = [schema.BufferT()]
        self.graph = schema.SubGraphT()
        self.model.subgraphs = [self.graph]
        self.graph.tensors, self.graph.inputs = [], []
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
        code.customCode, code.version = b"fedgate.gated_conv2d", 1
        self.model.operatorCodes = [code]
        self.node = schema.OperatorT()
        self.graph.operators = [self.node]
        self.feeds, self.index = [], {}
        for name in ORDER:
            array = call.inputs[name]
            if array is None or (name in GATE and not call.gated):
                continue
            self.index[name] = len(self.graph.tensors)
            fixed = name in CONSTANTS and name != call.tricks.get("variable")
            self._tensor(name, array.dtype, array.shape, array if fixed else None)
            if not fixed:
                self.graph.inputs.append(self.index[name])
                self.feeds.append((self.index[name], array))
        for name, (dtype, shape) in call.outputs.items():
            self.index[name] = len(self.graph.tensors)
            self._tensor(name, dtype, shape, None)
        self.node.inputs = [self.index[name] for name in ORDER if name in self.index]
        self.node.outputs = [self.index[name] for name in call.outputs]
        self.graph.outputs = list(self.node.outputs)
        self.options = {name: call.attributes[name] for name in ATTRIBUTES}
        self.options |= {"gated": call.gated, "masked_input": call.inputs["in_open"] is not None}
        self.options |= {"residual": call.inputs["residual"] is not None}
        self.options = {name: int(value) for name, value in self.options.items()}

    def _tensor(self, name, dtype, shape, data):
        tensor = schema.TensorT()
        tensor.name, tensor.type = name.encode(), getattr(schema.TensorType, TYPES[dtype.name])
        tensor.shape, tensor.buffer = list(shape), 0
        if data is not None:
            tensor.buffer = len(self.model.buffers)
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(data.tobytes(), np.uint8)
            self.model.buffers.append(buffer)
        self.graph.tensors.append(tensor)

    def pack(self) -> bytes:
        if self.node.customOptions is None:
            self.node.customOptions = np.frombuffer(bytes(flexbuffers.Dumps(self.options)), np.uint8)
        builder = flatbuffers.Builder(4096)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def run(call) -> bool:
    """Make the call, and judge what comes back; whether it was refused."""
    made = Model(call)
    for trick, argument in call.tricks.items():
        APPLY[trick](made, argument)
    try:
        program = interpreter.Interpreter(
            model_content=made.pack(),
            experimental_op_resolver_type=_resolver,
            experimental_delegates=[_delegates[call.seed % 2]],
        )
        program.allocate_tensors()
        for index, array in made.feeds:
            program.set_tensor(index, array)
        program.invoke()
        results = {name: program.get_tensor(made.index[name]) for name in call.outputs}
    except (RuntimeError, ValueError, OverflowError):
        return True
    judge(call, results["y"], results.get("open"))
    return False


def _present(call, rng, names=ORDER):
    names = [name for name in names if call.inputs[name] is not None and (call.gated or name not in GATE)]
    return names[rng.integers(len(names))] if names else None


def variable(call, rng):
    """A constant that the caller gives."""
    name = _present(call, rng, CONSTANTS)
    if name:
        call.tricks["variable"] = name
        return f"{name} a variable"
    return None


def constant_output(call, rng):
    """An output in memory that is the file's."""
    names = tuple(call.outputs)
    call.tricks["constant_output"] = names[rng.integers(len(names))]
    return f"{call.tricks['constant_output']} a constant"


def shortened(call, rng):
    name = _present(call, rng, CONSTANTS)
    if name is None or not call.inputs[name].size:
        return None
    call.tricks["shortened"] = name, int(rng.integers(1, call.inputs[name].nbytes + 1))
    return f"{name} shortened"


def other_options(call, rng):
    """Bytes that are no map, or a map with wrong bytes."""
    call.tricks["other_options"] = int(rng.integers(2**31))
    return "wrong attributes"


def other_flag(call, rng):
    name = ("gated", "masked_input", "residual")[rng.integers(3)]
    call.tricks["other_flag"] = name, (None, 2, -1)[rng.integers(3)]
    return f"{name} = {call.tricks['other_flag'][1]}"


def no_such_tensor(call, rng):
    call.tricks["no_such_tensor"] = int(rng.integers(10)), int(rng.choice([-2, -1, 100, 2**31 - 1]))
    return "a tensor that there is not"


def in_place(call, rng):
    name = _present(call, rng)
    if name is None:
        return None
    call.tricks["in_place"] = name
    return f"y is {name}"


def other_count(call, rng):
    call.tricks["other_count"] = bool(rng.integers(2))
    return "another number of operands"


DECLARES = True  # a model says of what shape outputs are
TRICKS = (variable, constant_output, shortened, other_options, other_flag, no_such_tensor, in_place, other_count)


def _meaningless(made):
    """Where another change has left a trick nothing to do: as unlawful as it."""
    made.model.operatorCodes[0].customCode = b"nothing"


def _apply_constant_output(made, name):
    tensor = made.graph.tensors[made.index[name]]
    size = int(np.prod(tensor.shape)) * (4 if name == "y" else 1)
    tensor.buffer = len(made.model.buffers)
    buffer = schema.BufferT()
    buffer.data = np.zeros(max(size, 1), np.uint8)
    made.model.buffers.append(buffer)


def _apply_shortened(made, argument):
    name, count = argument
    buffer = made.model.buffers[made.graph.tensors[made.index[name]].buffer] if name in made.index else None
    if buffer is None or buffer.data is None:
        return _meaningless(made)
    buffer.data = buffer.data[:-count]
    return None


def _apply_other_options(made, seed):
    """Where the wrong bytes still are a map of these names, there is nothing wrong but its values."""
    rng = np.random.default_rng(seed)
    data = np.frombuffer(bytes(flexbuffers.Dumps(made.options)), np.uint8).copy()
    if rng.integers(3) == 0:
        data = rng.integers(256, size=rng.integers(64)).astype(np.uint8)
    else:
        data[rng.integers(len(data), size=3)] = rng.integers(256, size=3)
        data = data[: rng.integers(1, len(data) + 1)] if rng.integers(2) else data
    if attributes(data.tobytes()).keys() == made.options.keys():
        return _meaningless(made)
    made.node.customOptions = data
    return None


class _Attribute(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char * 24), ("value", ctypes.c_int32))


def attributes(data: bytes):
    """What the operator's own reader makes of a node's bytes; test_litert_attributes_fuzz.py tests it by itself."""
    found = (_Attribute * 16)()
    count = ctypes.CDLL(_library).fedgate_read_attributes(data, ctypes.c_size_t(len(data)), found, 16)
    return {found[i].name.decode("latin-1"): found[i].value for i in range(count)}


def _apply_other_flag(made, argument):
    name, value = argument
    made.options = {key: item for key, item in made.options.items() if key != name}
    if value is not None:
        made.options[name] = value


def _apply_no_such_tensor(made, argument):
    at, index = argument
    if at >= len(made.node.inputs):
        return _meaningless(made)
    made.node.inputs[at] = index
    return None


def _apply_in_place(made, name):
    if name not in made.index:
        return _meaningless(made)
    made.node.outputs[0] = made.index[name]
    made.graph.outputs = list(made.node.outputs)
    made.index["y"] = made.index[name]
    return None


def _apply_other_count(made, more):
    if more:
        made.node.inputs.append(0)
    else:
        del made.node.inputs[-1:]


APPLY = {
    "variable": lambda made, name: None if name in made.index else _meaningless(made),
    "constant_output": _apply_constant_output,
    "shortened": _apply_shortened,
    "other_options": _apply_other_options,
    "other_flag": _apply_other_flag,
    "no_such_tensor": _apply_no_such_tensor,
    "in_place": _apply_in_place,
    "other_count": _apply_other_count,
}
