"""The LiteRT delegate refuses damaged files, and levels that there are not, with the reason."""

import pytest
import small_skip
from litert_changes import (
    INPUTS,
    attributes,
    damaged,
    kind,
    operands,
    raw_attributes,
    schema,
    shape,
    shortened,
    small_file,
    variable,
    write_over,
)

from fedgate.device_runtime.kernels.build import find

flexbuffers = pytest.importorskip("flatbuffers.flexbuffers")

FLOAT32, INT32, UINT8, INT64 = (getattr(schema.TensorType, name) for name in ("FLOAT32", "INT32", "UINT8", "INT64"))
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


def test_damaged_files_and_levels_are_refused_with_the_reason(need_kernel, tmp_path):
    need_kernel()
    assert small_skip.wrong_errors(RUN, str(find("litert")), small_file(), damaged, DAMAGE, tmp_path) == {}
