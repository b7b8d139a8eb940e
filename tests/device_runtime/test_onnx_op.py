"""The operators of ONNX Runtime: damaged files are refused with the reason, and whole ones compute what torch does."""

import copy
import ctypes
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import small_skip
import torch
from small_skip import DENSITIES, IMAGES, SHAPE, assert_same, expected

from fedgate.device_runtime.kernels.build import find
from fedgate.device_runtime.kernels.library import KernelLibrary
from fedgate.export.lowering import lower
from fedgate.export.skip import kernel_layers

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

INPUTS = (
    "x", "weight", "scale", "shift", "level", "in_open", "residual", "gate_weight", "gate_bias", "kept"
)  # fmt: skip
CONSTANTS = ("weight", "scale", "shift", "gate_weight", "gate_bias", "kept")


@pytest.fixture(scope="module")
def eager():
    return small_skip.network()


@pytest.fixture(scope="module")
def library(need_kernel):
    need_kernel()
    return str(find("onnx"))


@pytest.fixture(scope="module")
def blob(eager):
    """The network's ONNX file."""
    return lower(eager, "onnx", SHAPE, True)


def load(library, blob, **entries):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    for name, value in entries.items():
        options.add_session_config_entry(f"fedgate.{name}", value)
    options.register_custom_ops_library(library)
    return onnxruntime.InferenceSession(blob, options, providers=["CPUExecutionProvider"])


def run(session):
    """(logits, open) of every level and image."""
    rows = [
        session.run(None, {"image": image[None], "level": np.array([level], np.int32)})
        for level in range(len(DENSITIES))
        for image in IMAGES
    ]
    shape = len(DENSITIES), len(IMAGES), -1
    return tuple(np.reshape(part, shape) for part in zip(*rows, strict=True))


@pytest.mark.parametrize("threads", ["1", "2"])
def test_equals_eager_on_every_instruction_set(library, blob, eager, threads):
    want = expected(eager)
    for isa in KernelLibrary(library).isas:
        assert_same(run(load(library, blob, threads=threads, isa=isa)), want)


@pytest.mark.parametrize("sessions", [1, 2])
def test_two_calls_at_once(library, blob, eager, sessions):
    want = expected(eager)
    loaded = [load(library, blob, threads="2") for _ in range(sessions)] * (2 // sessions)
    with ThreadPoolExecutor(2) as pool:
        for got in pool.map(lambda each: [run(each) for _ in range(50)], loaded):
            for each in got:
                assert_same(each, want)


def test_nothing_lies_between_the_operators(blob):
    """Neither layouts nor types are converted on the way."""
    nodes = [node.op_type for node in onnx.load_from_string(blob).graph.node]
    assert nodes[:3] == ["conv2d", "gated_conv2d", "gated_conv2d"]
    assert sorted(nodes[3:]) == ["Concat", "Gemm", "ReduceMean"]


@torch.no_grad()
def test_kept_out_of_range_opens_none_or_all(library, blob, eager):
    """As it does in eager torch: ranks are never below a negative number, and always below a large one."""
    values = -(2**31), 2**31 - 1
    changed = copy.deepcopy(eager)
    changed.get_submodule(kernel_layers(changed)[-1]).kept.copy_(torch.tensor(values))
    assert_same(run(load(library, damaged(blob, constant("kept", np.array(values, np.int32))))), expected(changed))


@pytest.mark.parametrize(
    "entries, reason",
    [
        ({"threads": "0"}, "fedgate.threads must be from 1 to 256, not '0'"),
        ({"threads": "257"}, "fedgate.threads must be from 1 to 256"),
        ({"threads": "2x"}, "fedgate.threads must be from 1 to 256"),
        ({"isa": "sse9"}, "no instruction set 'sse9' here"),
    ],
)
def test_wrong_config_entries(library, blob, entries, reason):
    with pytest.raises(Exception, match=reason):
        load(library, blob, **entries)


def test_a_runtime_that_is_too_old_is_refused(library):
    """A runtime without version 16 of the interface: of the table of version 1, only CreateStatus may be called."""
    said = []
    status = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p)(
        lambda code, message: said.append(message.decode()) or 1
    )
    table = (ctypes.c_void_p * 102)(ctypes.cast(status, ctypes.c_void_p))
    asked = []
    get_api = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint32)(
        lambda version: asked.append(version) or (ctypes.addressof(table) if version == 1 else None)
    )
    version = ctypes.CFUNCTYPE(ctypes.c_void_p)(lambda: ctypes.cast(ctypes.c_char_p(b"1.15.1"), ctypes.c_void_p).value)
    base = (ctypes.c_void_p * 2)(*(ctypes.cast(function, ctypes.c_void_p) for function in (get_api, version)))
    register = ctypes.CDLL(library).RegisterCustomOps
    register.argtypes, register.restype = [ctypes.c_void_p, ctypes.c_void_p], ctypes.c_void_p
    assert register(None, base) == 1
    assert asked == [16, 1] and "\n" not in said[0]
    assert said == ["ONNX Runtime 1.15.1 is too old; 1.16 is the oldest that can run the kernel's operators"]


# Damage: functions from a model, which they change.


def node(model):
    """The last call of the operator, which has all operands."""
    return [n for n in model.graph.node if n.op_type == "gated_conv2d"][-1]


def damaged(blob, change):
    model = onnx.load_from_string(blob)
    change(model)
    return model.SerializeToString()


def attribute(name, value):
    """Set an attribute, or remove it."""

    def change(model):
        (found,) = (a for a in node(model).attribute if a.name == name)
        node(model).attribute.remove(found)
        if value is not None:
            node(model).attribute.append(onnx.helper.make_attribute(name, value))

    return change


def constant(name, value):
    """Let an operand be a constant of its own."""

    def change(model):
        made = onnx.numpy_helper.from_array(np.asarray(value), f"new_{name}")
        model.graph.initializer.append(made)
        node(model).input[INPUTS.index(name)] = made.name

    return change


def zeros(name, *shape, dtype=np.float32):
    return constant(name, np.zeros(shape, dtype))


def variable(name):
    """Let a caller overwrite a constant."""

    def change(model):
        wanted = node(model).input[INPUTS.index(name)]
        (found,) = (i for i in model.graph.initializer if i.name == wanted)
        model.graph.input.append(onnx.helper.make_tensor_value_info(wanted, found.data_type, found.dims))

    return change


def shortened(name):
    def change(model):
        wanted = node(model).input[INPUTS.index(name)]
        (found,) = (i for i in model.graph.initializer if i.name == wanted)
        found.raw_data = found.raw_data[:-1]

    return change


def two_levels(model):
    (level,) = (i for i in model.graph.input if i.name == "level")
    level.type.tensor_type.shape.dim[0].dim_value = 2


def operands(change_list):
    def change(model):
        changed = change_list(list(node(model).input))
        del node(model).input[:]
        node(model).input.extend(changed)

    return change


OPTIONS = ("stride", "relu", "pool", "residual_stride", "residual_offset")
NO_FIT = "residual does not have the output's shape"
DAMAGE = {
    **{f"{name} missing": (attribute(name, None), f"attribute '{name}' is missing") for name in OPTIONS},
    **{f"{name} text": (attribute(name, "1"), f"attribute '{name}' is missing, or no integer") for name in OPTIONS},
    **{f"{name} negative": (attribute(name, -1), f"{name} = -1 is out of range") for name in OPTIONS},
    **{f"{name} 2**32": (attribute(name, 2**32 + 1), f"{name} = 4294967297 is out") for name in OPTIONS},
    "stride 0": (attribute("stride", 0), "strides must be 1 or 2"),
    "stride 3": (attribute("stride", 3), "strides must be 1 or 2"),
    "stride 2": (attribute("stride", 2), NO_FIT),
    "relu 2": (attribute("relu", 2), "relu must be 0 or 1"),
    "pool 0": (attribute("pool", 0), "pooling must be 1 or 2"),
    "pool 3": (attribute("pool", 3), "pooling must be 1 or 2"),
    "offset": (attribute("residual_offset", 1), NO_FIT),
    "offset 2**31 - 1": (attribute("residual_offset", 2**31 - 1), "residual's sizes are out of range"),
    "residual stride 2": (attribute("residual_stride", 2), NO_FIT),
    "weight 5x5": (zeros("weight", 8, 12, 5, 5), "kernels must be 1x1 or 3x3"),
    "weight 3x1": (zeros("weight", 8, 12, 3, 1), "weight is float32 of shape [8, 12, 3, 1], not float32 of shape"),
    "weight flat": (zeros("weight", 864), "weight is float32 of shape [864]"),
    "weight of rank 5": (zeros("weight", 8, 12, 3, 3, 1), "weight is float32 of rank 5"),
    "weight empty": (zeros("weight", 0, 12, 3, 3), "weight is float32 of shape [0, 12, 3, 3]"),
    "weight of fewer inputs": (zeros("weight", 8, 6, 3, 3), "gate_weight is float32 of shape [12, 8], not"),
    "weight uint8": (zeros("weight", 8, 12, 3, 3, dtype=np.uint8), "tensor(uint8)"),
    "scale of one level": (zeros("scale", 1, 8), "shift is float32 of shape [2, 8], not float32 of shape [1, 8]"),
    "scale of four levels": (zeros("scale", 4, 4), "scale is float32 of shape [4, 4], not float32 of shape [4, 8]"),
    "scale flat": (zeros("scale", 16), "scale is float32 of shape [16]"),
    "shift flat": (zeros("shift", 16), "shift is float32 of shape [16]"),
    "two levels at once": (two_levels, "level is int32 of shape [2], not int32 of shape [1]"),
    "level float": (zeros("level", 1), "tensor(float)"),
    "level scalar": (zeros("level", dtype=np.int32), "level is int32 of shape [], not int32 of shape [1]"),
    "level out of range": (constant("level", np.array([2], np.int32)), "level 2 is not one of 0 to 1"),
    "level negative": (constant("level", np.array([-1], np.int32)), "level -1 is not one of 0 to 1"),
    "mask float": (zeros("in_open", 1, 12), "tensor(float)"),
    "mask turned": (zeros("in_open", 12, 1, dtype=np.uint8), "in_open is uint8 of shape [12, 1], not"),
    "gate_weight turned": (zeros("gate_weight", 8, 12), "gate_weight is float32 of shape [8, 12], not"),
    "gate_bias int32": (zeros("gate_bias", 8, dtype=np.int32), "tensor(int32)"),
    "gate_bias short": (zeros("gate_bias", 7), "gate_bias is float32 of shape [7], not float32 of shape [8]"),
    "kept float": (zeros("kept", 2), "tensor(float)"),
    "kept int64": (zeros("kept", 2, dtype=np.int64), "tensor(int64)"),
    "kept of one level": (zeros("kept", 1, dtype=np.int32), "kept is int32 of shape [1], not int32 of shape [2]"),
    "residual wide": (zeros("residual", 1, 9, 8, 8), NO_FIT),
    "residual of two": (zeros("residual", 2, 8, 8, 8), "residual is float32 of shape [2, 8, 8, 8], not"),
    "residual flat": (zeros("residual", 512), "residual is float32 of shape [512]"),
    "x of other channels": (zeros("x", 1, 5, 8, 8), "x is float32 of shape [1, 5, 8, 8], not float32 of shape [1, 12,"),
    "x flat": (zeros("x", 768), "x is float32 of shape [768]"),
    "x empty": (zeros("x", 1, 12, 0, 8), "x is float32 of shape [1, 12, 0, 8]"),
    **{f"{name} variable": (variable(name), f"{name} is not a constant") for name in CONSTANTS},
    # the runtime itself looks at these
    **{f"{name} shortened": (shortened(name), "size") for name in CONSTANTS},
    "fewer inputs": (operands(lambda i: i[:-1]), "input size 9 not in range"),
    "more inputs": (operands(lambda i: [*i, i[0]]), "input size 11 not in range"),
    "no inputs": (operands(lambda i: []), "input size 0 not in range"),
    "weight left out": (operands(lambda i: [i[0], "", *i[2:]]), "input 1 is marked single but has an empty string"),
    "an input that is not there": (operands(lambda i: ["nothing", *i[1:]]), "nothing"),
    "inputs swapped": (operands(lambda i: [*i[:7], i[8], i[7], i[9]]), "gate_weight is float32 of shape [8]"),
}
# For wrong_errors.
RUN = """
import sys
import onnxruntime
def run(file, level):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    options.register_custom_ops_library(sys.argv[1])
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    shape = session.get_inputs()[1].shape
    session.run(None, {"image": np.ones((1, 3, 8, 8), np.float32), "level": np.full(shape, level, np.int32)})
"""


def test_damaged_files_and_levels_are_refused_with_the_reason(library, blob, tmp_path):
    assert small_skip.wrong_errors(RUN, library, blob, damaged, DAMAGE, tmp_path) == {}
