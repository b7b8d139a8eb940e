"""Calls of the operators that a stranger could write into a program, lawful or not; `hostile_draw` draws them.

A call is described once for all runtimes. `lawful` says by rules of its own whether it may be made; what is made must
then equal the naive loops, and all else must be refused.
"""

from dataclasses import dataclass, field

import naive
import numpy as np
from cases import close_calls

CONSTANTS = ("weight", "scale", "shift", "gate_weight", "gate_bias", "kept")
GATE = ("gate_weight", "gate_bias", "kept")
INPUTS = ("x", "weight", "scale", "shift", "level", "in_open", "residual", *GATE)
OPTIONAL = ("in_open", "residual")
ATTRIBUTES = ("stride", "relu", "pool", "residual_stride", "residual_offset")
TYPES = {"level": np.int32, "kept": np.int32, "in_open": np.uint8, "open": np.uint8}
DTYPES = tuple(map(np.dtype, ("float32", "int32", "uint8", "float64", "int64", "float16", "int8", "bool")))


@dataclass
class Call:
    """inputs: name -> array, or None for one left out; outputs: name -> (dtype, shape), as a file declares them."""

    seed: int
    gated: bool
    exact: bool
    inputs: dict
    attributes: dict
    outputs: dict
    changes: list = field(default_factory=list)  # what was done to a lawful call, for messages
    wild: bool = False  # it reads floats of which no two programs compute the same
    tricks: dict = field(default_factory=dict)  # what one runtime's file can say, by its driver; unlawful, if any


def lawful_outputs(call) -> dict:
    x, weight = call.inputs["x"], call.inputs["weight"]
    stride, pool = call.attributes["stride"], call.attributes["pool"]
    sides = (((side - 1) // stride + 1) // pool for side in x.shape[2:])
    outputs = {"y": (np.dtype(np.float32), (x.shape[0], weight.shape[0], *sides))}
    if call.gated:
        outputs["open"] = np.dtype(np.uint8), (x.shape[0], weight.shape[0])
    return outputs


def lawful(call) -> bool:
    """Whether the operator may be called so; by the words of fedgate_kernels.h, not by its code."""
    if call.tricks:
        return False
    given, attributes = call.inputs, call.attributes
    for name in INPUTS:
        if given[name] is None and name not in OPTIONAL and (call.gated or name not in GATE):
            return False
        if given[name] is not None and given[name].dtype != TYPES.get(name, np.float32):
            return False
    if not all(0 <= value < 2**31 for value in attributes.values()):
        return False
    if attributes["stride"] not in (1, 2) or attributes["relu"] not in (0, 1) or attributes["pool"] not in (1, 2):
        return False
    x, weight, scale = given["x"], given["weight"], given["scale"]
    if x.ndim != 4 or weight.ndim != 4 or scale.ndim != 2 or not (x.size and weight.size and scale.size):
        return False
    (batch, channels, height, width), (out, _, kernel, _), levels = x.shape, weight.shape, len(scale)
    if kernel not in (1, 3) or max(channels, out) > 2**16 or max(height, width) > 2**12:
        return False
    shapes = {
        "weight": (out, channels, kernel, kernel), "scale": (levels, out), "shift": (levels, out), "level": (1,),
        "in_open": (batch, channels), "gate_weight": (channels, out), "gate_bias": (out,), "kept": (levels,),
    }  # fmt: skip
    if any(given[name] is not None and given[name].shape != shape for name, shape in shapes.items()):
        return False
    rows, columns = ((side - 1) // attributes["stride"] + 1 for side in (height, width))
    if attributes["pool"] == 2 and min(rows, columns) < 2:
        return False
    if given["residual"] is not None:
        shape, step, offset = given["residual"].shape, attributes["residual_stride"], attributes["residual_offset"]
        if len(shape) != 4 or shape[0] != batch or 0 in shape or not 1 <= step <= 64 or max(shape[2:]) > 2**12:
            return False
        if [(side - 1) // step + 1 for side in shape[2:]] != [rows, columns] or offset + shape[1] > out:
            return False
    if given["in_open"] is not None and given["in_open"].max() > 1:
        return False
    return 0 <= given["level"][0] < levels and call.outputs == lawful_outputs(call)


def judge(call, y, opened) -> None:
    """Fail where a call that was made gave something else than the naive loops."""
    assert lawful(call), "it was not refused"
    if opened is not None:
        assert opened.max() <= 1, "masks hold values other than 0 and 1, or were not written"
    options = {name: call.inputs[name] for name in ("in_open", "residual", *GATE) if call.inputs[name] is not None}
    options |= call.attributes | {"level": int(call.inputs["level"][0])}
    arrays = (call.inputs[name] for name in ("x", "weight", "scale", "shift"))
    with np.errstate(all="ignore"):
        right = naive.gated_conv2d(*arrays, **options, forced=opened)
        # also where a mask is gone, behind which there were such floats
        call.wild = call.wild or not right.magnitudes.max() < 1e30
    if call.wild:
        return
    if opened is not None and call.exact and not call.changes:
        np.testing.assert_array_equal(opened, right.open)
    elif opened is not None:
        k = call.inputs["kept"][options["level"]]
        for sample in zip(opened, right.open, right.gate, strict=True):
            close_calls(*sample, k)
    # the bounds of cases.judge; masks that differ by a close call are what the outputs were computed with
    error = np.abs(y - right.y) - 1e-5 * right.magnitudes - np.finfo(np.float32).tiny
    assert error.max() <= 0, f"y is off by {error.max()}"
