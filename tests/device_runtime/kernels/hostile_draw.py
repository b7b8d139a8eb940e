"""Hostile calls, each drawn from one number: a lawful call, to which nothing or up to three things are done."""

import numpy as np
from cases import TABLE, make_case
from hostile import ATTRIBUTES, DTYPES, GATE, INPUTS, TYPES, Call, lawful_outputs

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
