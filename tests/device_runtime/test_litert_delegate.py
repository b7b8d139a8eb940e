"""The LiteRT delegate: damaged files are refused with the reason, and whole ones compute what eager torch does."""

import copy
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

flatbuffers = pytest.importorskip("flatbuffers")
flexbuffers = pytest.importorskip("flatbuffers.flexbuffers")
schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
interpreter = pytest.importorskip("ai_edge_litert.interpreter")

# what a node with all of its operands reads
INPUTS = (
    "x", "weight", "scale", "shift", "level", "in_open", "gate_weight", "gate_bias", "kept", "residual"
)  # fmt: skip
FLOAT32, INT32, UINT8, INT64 = (getattr(schema.TensorType, name) for name in ("FLOAT32", "INT32", "UINT8", "INT64"))


@pytest.fixture(scope="module")
def eager():
    return small_skip.network()


@pytest.fixture(scope="module")
def library(need_kernel):
    need_kernel()
    return str(find("litert"))


@pytest.fixture(scope="module")
def blob(eager):
    """The network's LiteRT file."""
    return lower(eager, "litert", SHAPE, True)


class Loaded:
    """A file in LiteRT with our delegate and no other."""

    def __init__(self, library, blob, **options):
        self.interpreter = interpreter.Interpreter(
            model_content=blob,
            experimental_op_resolver_type=interpreter.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_delegates=[interpreter.load_delegate(library, options)],
        )
        self.interpreter.allocate_tensors()
        self._runner = self.interpreter.get_signature_runner()

    def run(self):
        """(logits, open) of every level and image."""
        logits, masks = [], []
        for level in range(len(DENSITIES)):
            for image in IMAGES.transpose(0, 2, 3, 1):
                result = self._runner(args_0=image[None].copy(), args_1=np.array([level], np.int32))
                logits.append(result["output_0"][0])
                masks.append(result["output_1"][0])
        shape = len(DENSITIES), len(IMAGES), -1
        return np.reshape(logits, shape), np.reshape(masks, shape)


@pytest.mark.parametrize("threads", [1, 2])
def test_equals_eager_on_every_instruction_set(library, blob, eager, threads):
    want = expected(eager)
    for isa in KernelLibrary(library).isas:
        assert_same(Loaded(library, blob, threads=str(threads), isa=isa).run(), want)


def test_two_interpreters_at_once(library, blob, eager):
    want = expected(eager)
    loaded = [Loaded(library, blob, threads=threads) for threads in ("1", "2")]
    with ThreadPoolExecutor(2) as pool:
        for got in pool.map(lambda each: [each.run() for _ in range(100)], loaded):
            for run in got:
                assert_same(run, want)


def test_neighbours_become_one_partition(library, blob):
    names = [op["op_name"] for op in Loaded(library, blob).interpreter._get_ops_details()]
    assert names.count("DELEGATE") == 1, names  # behind the operators of the file, which stay listed


def test_a_batch_that_the_file_was_not_made_for_is_refused(library, blob):
    program = Loaded(library, blob).interpreter
    program.resize_tensor_input(program.get_signature_runner().get_input_details()["args_0"]["index"], [2, 8, 8, 3])
    with pytest.raises(RuntimeError, match="y is "):
        program.allocate_tensors()


def test_calls_in_the_wrong_order_are_put_right(library, blob, eager):
    """The runtime orders them by what they read."""
    assert_same(Loaded(library, damaged(blob, turn_nodes)).run(), expected(eager))


@torch.no_grad()
def test_kept_out_of_range_opens_none_or_all(library, blob, eager):
    """As it does in eager torch: ranks are never below a negative number, and always below a large one."""
    values = -(2**31), 2**31 - 1
    changed = copy.deepcopy(eager)
    changed.get_submodule(kernel_layers(changed)[-1]).kept.copy_(torch.tensor(values))
    assert_same(Loaded(library, damaged(blob, kept(*values))).run(), expected(changed))


@pytest.mark.parametrize(
    "options, reason",
    [
        ({"threads": "0"}, "threads must be from 1 to 256"),
        ({"threads": "257"}, "threads must be from 1 to 256"),
        ({"threads": "2x"}, "threads must be from 1 to 256"),
        ({"isa": "sse9"}, "no instruction set 'sse9' here"),
        ({"colour": "1"}, "unknown option 'colour'"),
    ],
)
def test_wrong_options(library, options, reason):
    with pytest.raises(ValueError, match=reason):
        interpreter.load_delegate(library, options)


# Damage: functions from a model of the schema's object API, which they change.


def node(model):
    """The last call of the operator, which has all operands."""
    code = [c.customCode for c in model.operatorCodes].index(b"fedgate.gated_conv2d")
    return [op for op in model.subgraphs[0].operators if op.opcodeIndex == code][-1]


def tensor(model, name):
    return model.subgraphs[0].tensors[node(model).inputs[INPUTS.index(name)]]


def raw_attributes(data):
    def change(model):
        node(model).customOptions = np.frombuffer(data, np.uint8)

    return change


def attributes(**changes):
    """Set attributes, or remove those that are None."""

    def change(model):
        found = flexbuffers.Loads(bytes(node(model).customOptions)) | changes
        kept = {name: value for name, value in found.items() if value is not None}
        raw_attributes(bytes(flexbuffers.Dumps(kept)))(model)

    return change


def shape(name, *sides):
    def change(model):
        tensor(model, name).shape = np.array(sides, np.int32)

    return change


def kind(name, value):
    def change(model):
        tensor(model, name).type = value

    return change


def variable(name):
    def change(model):
        tensor(model, name).buffer = 0

    return change


def shortened(name, size):
    def change(model):
        buffer = model.buffers[tensor(model, name).buffer]
        buffer.data = buffer.data[:size]

    return change


def kept(*values):
    def change(model):
        model.buffers[tensor(model, "kept").buffer].data = np.frombuffer(np.array(values, np.int32).tobytes(), np.uint8)

    return change


def operands(change_list, side="inputs"):
    def change(model):
        op = node(model)
        setattr(op, side, np.array(change_list(list(map(int, getattr(op, side)))), np.int32))

    return change


def write_over(name):
    def change(model):
        op = node(model)
        op.outputs = np.array([op.inputs[INPUTS.index(name)], op.outputs[1]], np.int32)

    return change


def turn_nodes(model):
    """The two gated calls in the wrong order."""
    operators = model.subgraphs[0].operators
    last = operators.index(node(model))
    operators[last - 1], operators[last] = operators[last], operators[last - 1]


def damaged(blob, change):
    model = schema.ModelT.InitFromPackedBuf(blob, 0)
    change(model)
    builder = flatbuffers.Builder(len(blob))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


NAMES = ("gated", "masked_input", "pool", "relu", "residual", "residual_offset", "residual_stride", "stride")
NO_MAP = "its attributes are not a map of names to integers"
NO_FIT = "its operands do not fit its attributes"
BAD_TENSOR = "is invalidly specified in schema"
DAMAGE = {
    **{f"{name} missing": (attributes(**{name: None}), f"attribute '{name}' is missing") for name in NAMES},
    **{f"{name} negative": (attributes(**{name: -1}), f"attribute '{name}' = -1 is not known") for name in NAMES},
    "unknown attribute": (attributes(dilation=1), "attribute 'dilation' = 1 is not known"),
    "gated 2": (attributes(gated=2), "attribute 'gated' = 2 is not known"),
    "stride 3": (attributes(stride=3), "strides must be 1 or 2"),
    "stride 2": (attributes(stride=2), "residual does not have the output's shape"),
    "stride text": (attributes(stride="1"), NO_MAP),
    "stride 2**40": (attributes(stride=2**40), NO_MAP),
    "relu 2": (attributes(relu=2), "relu must be 0 or 1"),
    "pool 3": (attributes(pool=3), "pooling must be 1 or 2"),
    "pool 1": (attributes(pool=1), "y is "),
    "offset": (attributes(residual_offset=1), "residual does not have the output's shape"),
    "offset 2**31 - 1": (attributes(residual_offset=2**31 - 1), "residual's sizes are out of range"),
    "residual stride 2": (attributes(residual_stride=2), "residual does not have the output's shape"),
    "no residual": (attributes(residual=0), NO_FIT),
    "not gated": (attributes(gated=0), NO_FIT),
    "input not masked": (attributes(masked_input=0), NO_FIT),
    "no attributes": (raw_attributes(b""), NO_MAP),
    "junk attributes": (raw_attributes(b"\xff" * 40), NO_MAP),
    "list of attributes": (raw_attributes(bytes(flexbuffers.Dumps([1, 2]))), NO_MAP),
    "weight 5x5": (shape("weight", 8, 4, 5, 5), "weight has 3456 bytes, not 3200"),
    "weight 3x1": (shape("weight", 8, 12, 3, 1), "weight is "),
    "weight flat": (shape("weight", 864), "weight is float32 of shape [864]"),
    "weight of fewer inputs": (shape("weight", 8, 6, 3, 3), "weight has 3456 bytes, not 1728"),
    "weight uint8": (kind("weight", UINT8), "weight is "),
    "scale of one level": (shape("scale", 1, 8), "scale has 64 bytes, not 32"),
    "scale of four levels": (shape("scale", 4, 4), "scale is "),
    "scale flat": (shape("scale", 16), "scale is float32 of shape [16]"),
    "shift flat": (shape("shift", 16), "shift is "),
    "two levels at once": (shape("level", 2), "level is "),
    "level float": (kind("level", FLOAT32), "level is "),
    "mask float": (kind("in_open", FLOAT32), "open is "),
    "mask turned": (shape("in_open", 12, 1), "open is "),
    "gate_weight turned": (shape("gate_weight", 8, 12), "gate_weight is "),
    "gate_bias int32": (kind("gate_bias", INT32), "gate_bias is "),
    "kept float": (kind("kept", FLOAT32), "kept is "),
    "kept of one level": (shape("kept", 1), "kept is "),
    "residual narrow": (shape("residual", 1, 8, 8, 4), "y is "),
    "x without a shape": (shape("x"), "y is "),
    "x empty": (shape("x", 1, 0, 8, 8), "y is "),
    "x huge": (shape("x", 2**30, 12, 8, 8), "y is "),
    **{f"{name} variable": (variable(name), f"{name} is not a constant") for name in INPUTS[1:4] + INPUTS[6:9]},
    # the runtime itself looks at these
    **{f"{name} shortened": (shortened(name, 4), BAD_TENSOR) for name in INPUTS[1:4] + INPUTS[6:9]},
    "weight without a byte": (shortened("weight", 8 * 12 * 9 * 4 - 1), BAD_TENSOR),
    "weight too large": (shape("weight", 8, 24, 3, 3), BAD_TENSOR),
    "kept int64": (kind("kept", INT64), BAD_TENSOR),
    "fewer inputs": (operands(lambda i: i[:-1]), NO_FIT),
    "more inputs": (operands(lambda i: [*i, i[0]]), NO_FIT),
    "no inputs": (operands(lambda i: []), NO_FIT),
    "an input left out": (operands(lambda i: [*i[:5], -1, *i[6:]]), NO_FIT),
    "inputs swapped": (operands(lambda i: [*i[:6], i[7], i[6], *i[8:]]), "gate_weight"),
    "an input that is not there": (operands(lambda i: [*i[:9], 10**6]), "nvalid tensor index"),
    "level as x": (operands(lambda i: [i[4], *i[1:]]), "x is int32 of shape [1]"),
    "x as mask": (operands(lambda i: [*i[:5], i[0], *i[6:]]), "in_open is "),
    "mask as residual": (operands(lambda i: [*i[:9], i[5]]), "residual is uint8 of shape [1, 12]"),
    "fewer outputs": (operands(lambda o: o[:1], "outputs"), NO_FIT),
    "outputs swapped": (operands(lambda o: o[::-1], "outputs"), "y is uint8 of shape [1, 8]"),
    "written over x": (write_over("x"), NO_FIT),
    "written over the residual": (write_over("residual"), NO_FIT),
}
# For wrong_errors.
RUN = """
import sys
from ai_edge_litert.interpreter import Interpreter, load_delegate
def run(file, level):
    program = Interpreter(file, experimental_delegates=[load_delegate(sys.argv[1])])
    program.allocate_tensors()
    runner = program.get_signature_runner()
    runner(args_0=np.ones((1, 8, 8, 3), np.float32), args_1=np.array([level], np.int32))
"""


def test_damaged_files_and_levels_are_refused_with_the_reason(library, blob, tmp_path):
    assert small_skip.wrong_errors(RUN, library, blob, damaged, DAMAGE, tmp_path) == {}
