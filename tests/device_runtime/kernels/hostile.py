"""Calls of the operators that a stranger could write into a program: some lawful, most not, each drawn from one number.

A call is described once for all runtimes. `lawful` says by rules of its own whether it may be made; what is made must
then equal the naive loops, and all else must be refused.
"""

from dataclasses import dataclass, field

import naive
import numpy as np
from cases import TABLE, close_calls, make_case

CONSTANTS = ("weight", "scale", "shift", "gate_weight", "gate_bias", "kept")
GATE = ("gate_weight", "gate_bias", "kept")
INPUTS = ("x", "weight", "scale", "shift", "level", "in_open", "residual", *GATE)
OPTIONAL = ("in_open", "residual")
ATTRIBUTES = ("stride", "relu", "pool", "residual_stride", "residual_offset")
TYPES = {"level": np.int32, "kept": np.int32, "in_open": np.uint8, "open": np.uint8}
DTYPES = tuple(map(np.dtype, ("float32", "int32", "uint8", "float64", "int64", "float16", "int8", "bool")))
EDGES = (-(2**63), -(2**31), -1, 0, 1, 2, 3, 4, 64, 65, 2**16 + 1, 2**31 - 1, 2**31, 2**32 + 1, 2**63 - 1)
WILD = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-42, -0.0], np.float32)
# of a small layer: a case takes a fraction of a millisecond
SMALL = {
    **TABLE,
    "batch": (1, 1, 1, 2, 3),
    "in_channels": (*range(1, 9), *range(1, 5), 17, 33),
    "out_channels": (*range(1, 9), *range(1, 5), 17, 33),
    "height": (*range(1, 9), 12, 19),
    "width": (*range(1, 9), 12, 19),
    "nhwc": (0,),
    "x": ("normal", "rectified", "negative", "zero"),
}
MOST_MACS = 30_000


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


def draw_call(seed: int, tricks=(), declares=True) -> Call:
    """The call of a number. tricks: a driver's own changes, functions of (call, rng) that return a name.

    declares: whether the runtime's files say of what type and shape outputs are.
    """
    rng = np.random.default_rng(seed)
    shape = {name: values[rng.integers(len(values))] for name, values in SMALL.items()}
    exact = bool(rng.integers(2))
    case = make_case(shape, seed, exact, MOST_MACS)
    options = dict(case.options)
    inputs = dict.fromkeys(INPUTS) | dict(zip(("x", "weight", "scale", "shift"), case.arrays, strict=True))
    inputs |= {name: options[name] for name in INPUTS if name in options and name != "level"}
    inputs["level"] = np.array([options["level"]], np.int32)
    defaults = {"residual_stride": 1, "residual_offset": 0}
    attributes = {name: int(options.get(name, defaults.get(name, 0))) for name in ATTRIBUTES}
    call = Call(seed, "gate_weight" in options, exact, inputs, attributes, {})
    call.outputs = lawful_outputs(call)
    if rng.random() < 0.6:
        for _ in range(rng.integers(1, 4)):
            kinds = (*CHANGES, *tricks)
            name = kinds[rng.integers(len(kinds))](call, rng)
            if name:
                call.changes.append(name)
        if not declares or rng.random() < 0.5:
            follow(call)
        if declares and rng.random() < 0.1:
            call.changes.append(declare_output(call, rng))
    return call


def follow(call) -> None:
    """Let outputs be declared as they follow from changed inputs, where anything follows."""
    try:
        outputs = lawful_outputs(call)
    except (AttributeError, ValueError, IndexError, ZeroDivisionError):
        return
    if all(min(shape) >= 0 and np.prod(shape) < 10**6 for _, shape in outputs.values()):
        call.outputs = outputs


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


# Changes: each does one thing to a call, and returns what, or None where it does not apply.


def _pick(call, rng, names=INPUTS):
    present = [name for name in names if call.inputs[name] is not None]
    return present[rng.integers(len(present))] if present else None


def change_dtype(call, rng):
    name, dtype = _pick(call, rng), DTYPES[rng.integers(len(DTYPES))]
    with np.errstate(all="ignore"):
        call.inputs[name] = call.inputs[name].astype(dtype)
    return f"{name} as {dtype}"


def change_rank(call, rng):
    name = _pick(call, rng)
    array = call.inputs[name]
    ways = (
        array.reshape(-1),
        array[None],
        array[..., None],
        array.reshape(-1)[:1].reshape(()) if array.size else array,
    )
    call.inputs[name] = ways[rng.integers(4)].copy()
    return f"{name} of shape {call.inputs[name].shape}"


def change_side(call, rng):
    name = _pick(call, rng)
    array = call.inputs[name]
    if array.ndim == 0:
        return None
    axis = rng.integers(array.ndim)
    shape = list(array.shape)
    sizes = [0, 1, 2, shape[axis] - 1, shape[axis] + 1, 2 * shape[axis], 5]
    if array.size <= 16:
        sizes += [2**12 + 1, 2**16 + 1]
    shape[axis] = max(0, sizes[rng.integers(len(sizes))])
    call.inputs[name] = np.resize(array, shape) if array.size else np.zeros(shape, array.dtype)
    return f"{name} of shape {tuple(shape)}"


def change_axes(call, rng):
    name = _pick(call, rng)
    axes = rng.permutation(call.inputs[name].ndim)
    call.inputs[name] = np.ascontiguousarray(call.inputs[name].transpose(axes))
    return f"{name} turned by {axes}"


def leave_out(call, rng):
    name = _pick(call, rng)
    call.inputs[name] = None
    return f"no {name}"


def put_in(call, rng):
    """An operand that there is not, of a shape that may fit."""
    x, y = call.inputs["x"], call.outputs["y"]
    absent = [name for name in INPUTS if call.inputs[name] is None and (call.gated or name not in GATE)]
    if not absent or x is None or x.ndim < 2:
        return None
    name = absent[rng.integers(len(absent))]
    if name == "in_open":
        call.inputs[name] = rng.integers(0, 2, x.shape[:2]).astype(np.uint8)
    elif name == "residual":
        call.inputs[name] = rng.integers(-8, 9, y[1]).astype(np.float32)
    else:
        call.inputs[name] = np.ones(2, TYPES.get(name, np.float32))
    return f"{name} put in"


def change_attribute(call, rng):
    name, value = ATTRIBUTES[rng.integers(len(ATTRIBUTES))], EDGES[rng.integers(len(EDGES))]
    call.attributes[name] = value
    return f"{name} = {value}"


def change_level(call, rng):
    level = call.inputs["level"]
    if level is None or not level.size:
        return None
    call.inputs["level"] = np.full(level.shape, int(rng.choice([-(2**31), -1, 0, 1, 2, 3, 2**31 - 1]))).astype(np.int32)
    return f"level {call.inputs['level'].reshape(-1)[0]}"


def change_mask(call, rng):
    mask = call.inputs["in_open"]
    if mask is None or not mask.size:
        return None
    call.inputs["in_open"] = mask = mask.copy()
    mask.reshape(-1)[rng.integers(mask.size)] = rng.choice([0, 1, 2, 127, 255]).astype(mask.dtype)
    return "another value in in_open"


def change_kept(call, rng):
    kept = call.inputs["kept"]
    if kept is None or not kept.size:
        return None
    call.inputs["kept"] = rng.choice([-(2**31), -1, 0, 1, 2, 100, 2**31 - 1], kept.shape).astype(kept.dtype)
    return "other values in kept"


def swap(call, rng):
    one, other = _pick(call, rng), _pick(call, rng)
    call.inputs[one], call.inputs[other] = call.inputs[other], call.inputs[one]
    return f"{one} and {other} swapped"


def share(call, rng):
    one, other = _pick(call, rng), _pick(call, rng)
    call.inputs[one] = call.inputs[other]
    return f"{other} as {one} too"


def declare_output(call, rng):
    name = ("y", "open")[rng.integers(2)] if call.gated else "y"
    dtype, shape = call.outputs[name]
    if rng.integers(3) == 0:
        dtype = DTYPES[rng.integers(len(DTYPES))]
    else:
        shape = list(shape)
        shape[rng.integers(len(shape))] += int(rng.choice([-1, 1, 7]))
        shape = tuple(max(side, 0) for side in shape)
    call.outputs[name] = dtype, shape
    return f"{name} declared {dtype} {shape}"


def put_wild_floats(call, rng):
    floats = [name for name in INPUTS if call.inputs[name] is not None and call.inputs[name].dtype == np.float32]
    if not floats:
        return None
    name = floats[rng.integers(len(floats))]
    array = call.inputs[name].copy()
    if not array.size:
        return None
    array.reshape(-1)[rng.integers(array.size, size=rng.integers(1, 4))] = rng.choice(WILD)
    call.inputs[name], call.wild = array, True
    return f"wild floats in {name}"


CHANGES = (
    change_dtype, change_rank, change_side, change_side, change_axes, leave_out, put_in, change_attribute,
    change_attribute, change_level, change_mask, change_kept, swap, share, put_wild_floats,
)  # fmt: skip
