"""Hostile calls of ExecuTorch's operators, through the runtime's registry: `refused(call)` makes one."""

import ctypes
import os

import numpy as np
from executorch.extension.pybindings import portable_lib  # noqa: F401 - the runtime itself
from hostile import ATTRIBUTES, GATE, INPUTS, judge

from fedgate.device_runtime.kernels.build import find
from fedgate.device_runtime.kernels.library import KernelLibrary

TYPES = {"uint8": 0, "int8": 1, "int32": 3, "int64": 4, "float16": 5, "float32": 6, "float64": 7, "bool": 11}
NONE, TENSOR, INTEGER, BOOL, DOUBLE = range(5)
MOST_SIDES = 8


class Value(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int32) for name in ("kind", "type", "rank")),
        ("sizes", ctypes.c_int32 * MOST_SIDES),
        ("strides", ctypes.c_int32 * MOST_SIDES),
        ("order", ctypes.c_uint8 * 8),
        ("number", ctypes.c_int64),
        ("data", ctypes.c_void_p),
        ("bytes", ctypes.c_int64),
        ("within", ctypes.c_int32),
        ("offset", ctypes.c_int32),
    )


# first the runtime, then the operators, then what calls them
KernelLibrary(find("executorch"))
_driver = ctypes.CDLL(os.environ["HOSTILE_EXECUTORCH"])


def tensor(array) -> Value:
    order = (*range(array.ndim), *[0] * 8)[:8]
    strides, step = [0] * MOST_SIDES, 1
    for i in reversed(range(array.ndim)):
        strides[i], step = step, step * array.shape[i]
    return Value(
        TENSOR, TYPES[array.dtype.name], array.ndim, array.shape, tuple(strides), order, 0,
        array.ctypes.data, array.nbytes, -1, 0,
    )  # fmt: skip


def number(value) -> Value:
    return Value(kind=INTEGER, number=value, within=-1)


def run(call) -> bool:
    """Make the call, and judge what comes back; whether it was refused."""
    names = [*INPUTS[:7], *ATTRIBUTES, *(GATE if call.gated else ()), "y", *(["open"] if call.gated else [])]
    # as the kernel's own tests do: what no layer computes, so that a place that is not written is seen
    outputs = {
        name: np.full(shape, np.nan if dtype == np.float32 else 99, dtype)
        for name, (dtype, shape) in call.outputs.items()
    }
    inputs = {name: None if array is None else array.copy() for name, array in call.inputs.items()}
    values = {}
    for name in names:
        array = inputs.get(name, outputs.get(name))
        if name in ATTRIBUTES:
            values[name] = number(call.attributes[name])
        else:
            values[name] = Value(kind=NONE, within=-1) if array is None else tensor(array)
    if values["relu"].number in (0, 1) and call.seed % 2:
        values["relu"].kind = BOOL
    stack = [values[name] for name in names]
    for trick, argument in call.tricks.items():
        if len(stack) >= len(names):  # else it is cut off, and nothing more is wanted
            stack = APPLY[trick](stack, names, argument)
    if any(value.within >= len(stack) for value in stack):  # what it lay in was cut off
        stack = stack[:_MEANINGLESS]
    operator = b"fedgate::gated_conv2d.out" if call.gated else b"fedgate::conv2d.out"
    error = _driver.call_operator(operator, (Value * len(stack))(*stack), len(stack))
    assert error >= 0, "the registry has no such operator"
    for name, array in inputs.items():
        assert array is None or array.tobytes() == call.inputs[name].tobytes(), f"{name} was written to"
    if error == 0:
        judge(call, outputs["y"], outputs.get("open"))
    return error != 0


# What a file can say beyond wrong types and shapes: each trick draws its argument, and is applied to the stack.


def _a_tensor(call, rng):
    names = [name for name in (*INPUTS, *call.outputs) if name in call.outputs or call.inputs[name] is not None]
    if not call.gated:
        names = [name for name in names if name not in GATE]
    return names[rng.integers(len(names))] if names else None


def no_memory(call, rng):
    name = _a_tensor(call, rng)
    if name:
        call.tricks["no_memory"] = name
        return f"{name} without memory"
    return None


def overlap(call, rng):
    """An output in the memory of another tensor."""
    names = [name for name in (*INPUTS, "open") if name in call.outputs or (call.inputs.get(name) is not None)]
    names = [name for name in names if call.gated or name not in GATE]
    output = ("y", "open")[rng.integers(2)] if call.gated else "y"
    other = names[rng.integers(len(names))] if names else None
    if other in (None, output) or not np.prod(call.outputs[output][1]):
        return None
    if other != "open" and not call.inputs[other].size:
        return None
    call.tricks["overlap"] = output, other, int(rng.integers(4))
    return f"{output} over {other}"


def other_order(call, rng):
    name = _a_tensor(call, rng)
    shape = call.outputs[name][1] if name in call.outputs else call.inputs[name].shape if name else ()
    # a change that means something: of two sides of which neither is 1
    large = [i for i, side in enumerate(shape) if side > 1]
    if len(large) < 2:
        return None
    call.tricks["other_order"] = name, tuple(large[:2]), bool(rng.integers(2))
    return f"{name} in another order"


def other_kind(call, rng):
    names = [*INPUTS[:7], *ATTRIBUTES, *(GATE if call.gated else ()), *call.outputs]
    name = names[rng.integers(len(names))]
    wanted = INTEGER if name in ATTRIBUTES else TENSOR
    kinds = [kind for kind in (NONE, TENSOR, INTEGER, BOOL, DOUBLE) if kind != wanted]
    if name in ATTRIBUTES:
        kinds = [NONE, DOUBLE]
    if name in ("in_open", "residual"):
        kinds = [INTEGER, BOOL, DOUBLE]
    call.tricks["other_kind"] = name, kinds[rng.integers(len(kinds))]
    return f"{name} of another kind"


def other_count(call, rng):
    call.tricks["other_count"] = int(rng.choice([-12, -3, -2, -1, 3, 9]))
    return "another number of arguments"


def misaligned(call, rng):
    names = [n for n in INPUTS if call.inputs[n] is not None and call.inputs[n].dtype.itemsize >= 4]
    names = [name for name in names if (call.gated or name not in GATE) and call.inputs[name].size]
    if not names:
        return None
    call.tricks["misaligned"] = names[rng.integers(len(names))]
    return f"{call.tricks['misaligned']} misaligned"


DECLARES = True  # a program says of what shape outputs are
TRICKS = (no_memory, no_memory, overlap, other_order, other_kind, other_count, misaligned)


_MEANINGLESS = 0  # values of a stack where another change has left a trick nothing to do: as unlawful as it


def _apply_no_memory(stack, names, name):
    value = stack[names.index(name)]
    if value.kind != TENSOR:
        return stack[:_MEANINGLESS]
    value.data = None
    return stack


def _apply_overlap(stack, names, argument):
    """Both lie in one new array, which is large enough for them."""
    output, other, offset = argument
    value, base = stack[names.index(output)], stack[names.index(other)]
    if value.kind != TENSOR or base.kind != TENSOR or not base.data or not value.bytes or base.within >= 0:
        return stack[:_MEANINGLESS]
    offset = 4 * offset if 4 * offset < base.bytes else 0
    array = np.zeros(base.bytes + value.bytes + 16, np.uint8)
    ctypes.memmove(array.ctypes.data, base.data, base.bytes)
    base.data, base.bytes = array.ctypes.data, array.nbytes
    value.within, value.offset = names.index(other), offset
    _alive.append(array)
    del _alive[:-8]
    return stack


_alive = []


def _apply_other_order(stack, names, argument):
    name, (one, other), strides_alone = argument
    value = stack[names.index(name)]
    if value.kind != TENSOR or max(one, other) >= value.rank:
        return stack[:_MEANINGLESS]
    if not strides_alone:
        value.order[one], value.order[other] = value.order[other], value.order[one]
    value.strides[one], value.strides[other] = value.strides[other], value.strides[one]
    if value.strides[one] == value.strides[other]:
        value.strides[one] += 1
    return stack


def _apply_other_kind(stack, names, argument):
    name, kind = argument
    at = names.index(name)
    value = Value(kind=kind, number=1, within=-1)
    return [value if i == at else each for i, each in enumerate(stack)]


def _apply_other_count(stack, names, count):
    return stack[:count] if count < 0 else [*stack, *[number(1)] * count]


def _apply_misaligned(stack, names, name):
    value = stack[names.index(name)]
    if value.kind != TENSOR or not value.data or value.within >= 0:
        return stack[:_MEANINGLESS]
    array = np.zeros(value.bytes + 8, np.uint8)
    _alive.append(array)
    # its own memory lies behind another value's, which is none of the call's: appended here, cut off there
    value.within, value.offset = len(stack), 1
    return [
        *stack,
        Value(TENSOR, TYPES["uint8"], 1, (array.nbytes,), (1,), (0,), 0, array.ctypes.data, array.nbytes, -1, 0),
    ]


APPLY = {
    "no_memory": _apply_no_memory,
    "overlap": _apply_overlap,
    "other_order": _apply_other_order,
    "other_kind": _apply_other_kind,
    "other_count": _apply_other_count,
    "misaligned": _apply_misaligned,
}
