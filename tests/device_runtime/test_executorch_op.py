"""The operator of ExecuTorch: damaged programs are refused with the reason, and nothing crashes."""

import copy

import pytest
import small_skip
from small_skip import SHAPE

from fedgate.device_runtime.kernels.build import find
from fedgate.export.lowering import lower

_program = pytest.importorskip("executorch.exir._serialize._program")
schema = pytest.importorskip("executorch.exir.schema")

# a call's arguments, in their order
OPERANDS = (
    "x", "weight", "scale", "shift", "level", "in_open", "residual", "stride", "relu", "pool", "residual_stride",
    "residual_offset", "gate_weight", "gate_bias", "kept", "y", "open",
)  # fmt: skip
TENSORS = tuple(name for name in OPERANDS if name not in OPERANDS[7:12])


def plan_and_call(file):
    """The execution plan, and the last call of the operator, which has all operands."""
    plan = getattr(file, "program", file).execution_plan[0]
    names = [operator.name for operator in plan.operators]
    calls = [
        instruction.instr_args
        for chain in plan.chains
        for instruction in chain.instructions
        if isinstance(instruction.instr_args, schema.KernelCall)
        and names[instruction.instr_args.op_index] == "fedgate::gated_conv2d"
    ]
    return plan, calls[-1]


def damaged(blob, change):
    file = _program.deserialize_pte_binary(blob)
    change(file)
    return bytes(_program.serialize_pte_binary(file))


def operand(name, change):
    """Let an operand be a changed copy of its value."""

    def do(file):
        plan, call = plan_and_call(file)
        at = OPERANDS.index(name)
        value = copy.deepcopy(plan.values[call.args[at]])
        value.val = change(value.val) or value.val
        plan.values.append(value)
        call.args[at] = len(plan.values) - 1

    return do


def no_memory(value):
    value.allocation_info, value.data_buffer_idx = None, 0


def sizes(*sides):
    def change(value):
        value.sizes, value.dim_order = list(sides), list(range(len(sides)))

    return change


def kind(name):
    def change(value):
        value.scalar_type = getattr(schema.ScalarType, name)

    return change


def turned(value):
    value.dim_order = value.dim_order[::-1]


def number(value):
    return lambda _: schema.Int(value)


def other(kind):
    return lambda _: kind


def same(one, two):
    """One operand is the other."""

    def do(file):
        _, call = plan_and_call(file)
        call.args[OPERANDS.index(one)] = call.args[OPERANDS.index(two)]

    return do


def fewer(file):
    _, call = plan_and_call(file)
    del call.args[12:]


DAMAGE = {
    **{f"{name} without memory": (operand(name, no_memory), f"{name} has no memory") for name in TENSORS},
    **{f"{name} left out": (operand(name, other(schema.Null())), f"{name} is missing") for name in ("x", "level", "y")},
    "x a number": (operand("x", number(1)), "x is another type"),
    "mask a number": (operand("in_open", number(1)), "in_open is another type"),
    "stride 3": (operand("stride", number(3)), "strides must be 1 or 2"),
    "stride 2**32 + 1": (operand("stride", number(2**32 + 1)), "stride = 4294967297 is out of range"),
    "stride a float": (operand("stride", other(schema.Double(1.0))), "stride = -1 is out of range"),
    "pool -1": (operand("pool", number(-1)), "pool = -1 is out of range"),
    "offset 1": (operand("residual_offset", number(1)), "residual does not have the output's shape"),
    "level of two": (operand("level", sizes(2)), "level is int32 of shape [2], not int32 of shape [1]"),
    "level scalar": (operand("level", sizes()), "level is int32 of shape [], not int32 of shape [1]"),
    "level float": (operand("level", kind("FLOAT")), "level is float32 of shape [1]"),
    "level a mask": (same("level", "in_open"), "level is uint8 of shape [1, 12]"),
    "weight of one filter": (operand("weight", sizes(1, 12, 3, 3)), "scale is float32 of shape [2, 8]"),
    "weight in another order": (operand("weight", turned), "weight does not lie row by row"),
    "gate_weight turned": (operand("gate_weight", sizes(8, 12)), "gate_weight is float32 of shape [8, 12]"),
    "y small": (operand("y", sizes(1, 8, 4, 3)), "y is float32 of shape [1, 8, 4, 3]"),
    "y over x": (same("y", "x"), "y is float32 of shape [1, 12, 8, 8]"),
    "open over the mask": (same("open", "in_open"), "open is uint8 of shape [1, 12]"),
    "fewer arguments": (fewer, "another number of arguments"),
}
# For wrong_errors: what the operator tells goes to standard error.
RUN = """
import os, sys, tempfile
import torch
from executorch.runtime import Runtime
from fedgate.device_runtime.kernels.library import KernelLibrary
runtime = Runtime.get()
KernelLibrary(sys.argv[1])
def run(file, level):
    with tempfile.TemporaryFile() as told:
        before = os.dup(2)
        os.dup2(told.fileno(), 2)
        try:
            program = runtime.load_program(file)
            program.load_method("forward").execute([torch.ones(1, 3, 8, 8), torch.tensor([level], dtype=torch.int32)])
        except Exception as error:
            told.seek(0)
            raise RuntimeError(f"{error} {told.read().decode()}") from error
        finally:
            os.dup2(before, 2)
"""


def test_damaged_programs_and_levels_are_refused_with_the_reason(need_kernel, tmp_path):
    need_kernel()
    blob = lower(small_skip.network(), "executorch", SHAPE, True)
    assert small_skip.wrong_errors(RUN, str(find("executorch")), blob, damaged, DAMAGE, tmp_path) == {}
