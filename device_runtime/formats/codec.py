"""Codecs: how the slices of an update become flat tensors, and back.

    fp32  "values" float32: the values themselves
    fp16  "values" float16: differences to the base that sender and receiver hold
    int8  "values" int8 of -127 to 127, and "scales" float32, one for each index of the first axis of a slice, for the
          slices of two or more dimensions: difference = value * scale; "vectors" float16: differences of the others
    int4  the same with values of -7 to 7, two in a byte of uint8, the first in its low half; a half is value + 8, and
          that of nothing (the last of an odd number) 8

Slices follow one another in the order of their names, each row-major; the base of what has none is 0. In int8 and int4
a scale is the row's largest difference / 127 or / 7, and rounding is stochastic (up with the probability of the
remainder), so that what a codec loses has mean 0: D. Alistarh et al., "QSGD: Communication-Efficient SGD via Gradient
Quantization and Encoding", NeurIPS 2017, section 3.1.
"""

import math
from itertools import accumulate

import numpy as np

from ..errors import FedgateError

CODECS = ("fp32", "fp16", "int8", "int4")
STEPS = {"int8": 127, "int4": 7}
VARIANCE = "running_var"  # what ends so is never below 0: rounding must not make it so

Shapes = dict[str, tuple[int, ...]]
Slices = dict[str, np.ndarray]


def tensor_lengths(codec: str, shapes: Shapes) -> dict[str, tuple[np.dtype, int]]:
    """The flat tensors that slices of these shapes become: name -> (dtype, length)."""
    sizes = {name: count(shape) for name, shape in shapes.items()}
    if codec not in STEPS:
        return {"values": (np.dtype("f4" if codec == "fp32" else "f2"), sum(sizes.values()))}
    matrices = [name for name, shape in shapes.items() if len(shape) > 1]
    entries = sum(sizes[name] for name in matrices)
    return {
        "values": (np.dtype("i1"), entries) if codec == "int8" else (np.dtype("u1"), -(-entries // 2)),
        "scales": (np.dtype("f4"), sum(shapes[name][0] for name in matrices)),
        "vectors": (np.dtype("f2"), sum(sizes[name] for name in shapes if name not in matrices)),
    }


@np.errstate(over="ignore", invalid="ignore")  # what does not fit or was not finite is refused by the receiver
def encode_slices(codec: str, slices: Slices, base: Slices, seed) -> Slices:
    """Flat tensors, as `tensor_lengths` describes them, of float32 slices by name.

    seed: of stochastic rounding, a whole number or several.
    """
    if codec == "fp32":
        return {"values": joined(slices.values(), np.float32)}
    differences = {
        name: np.asarray(value, np.float32) - base[name] if name in base else np.asarray(value, np.float32)
        for name, value in slices.items()
    }
    if codec == "fp16":
        return {"values": joined(differences.values(), np.float16)}
    most, random, values, scales, vectors = STEPS[codec], np.random.default_rng(seed), [], [], []
    for difference in differences.values():
        if difference.ndim < 2:
            vectors.append(difference)
            continue
        rows = difference.reshape(len(difference), count(difference.shape[1:]))
        scale = np.abs(rows).max(1, initial=0) / np.float32(most)
        steps = rows / np.where(scale > 0, scale, 1)[:, None] * (scale > 0)[:, None]
        steps = np.floor(steps + random.random(rows.shape, np.float32))
        values.append(np.clip(steps, -most, most))
        scales.append(scale)
    codes = joined(values, np.int8)
    return {
        "values": codes if codec == "int8" else pack_halves(codes),
        "scales": joined(scales, np.float32),
        "vectors": joined(vectors, np.float16),
    }


@np.errstate(over="ignore", invalid="ignore")  # the results are looked at
def decode_slices(codec: str, tensors: Slices, shapes: Shapes, base: Slices) -> Slices:
    """The inverse: float32 slices by name. tensors: of the dtypes and lengths of `tensor_lengths`, finite.

    Raises `FedgateError` for a code or a scale that no encoder writes, and for results that are not finite or
    variances below 0.
    """
    if codec in STEPS:
        if codec == "int4":
            entries = sum(count(shape) for shape in shapes.values() if len(shape) > 1)
            tensors = tensors | {"values": unpack_halves(tensors["values"], entries)}
        if tensors["values"].min(initial=0) < -STEPS[codec]:
            raise FedgateError(f"the update's 'values' holds a code below {-STEPS[codec]}")
        if tensors["scales"].min(initial=0) < 0:
            raise FedgateError("the update's 'scales' holds a number below 0")
    slices, at = {}, dict.fromkeys(tensors, 0)

    def next_part(key, shape):
        start, at[key] = at[key], at[key] + count(shape)
        return tensors[key][start : at[key]].reshape(shape)

    for name, shape in shapes.items():
        if codec in STEPS and len(shape) > 1:
            scale = next_part("scales", shape[:1]).reshape(-1, *[1] * (len(shape) - 1))
            part = next_part("values", shape) * scale
        else:
            part = next_part("vectors" if codec in STEPS else "values", shape)
        if codec != "fp32":
            part = part.astype(np.float32) + base[name] if name in base else part.astype(np.float32)
            if name.endswith(VARIANCE):
                part = np.maximum(part, np.float32(0))
        elif name.endswith(VARIANCE) and part.min(initial=0) < 0:
            raise FedgateError(f"the update's {name!r} holds a variance below 0")
        slices[name] = part
    if codec != "fp32" and not np.isfinite(joined(slices.values(), np.float32)).all():
        raise FedgateError("the update's values are not finite once they are added to their base")
    return slices


def pack_halves(codes: np.ndarray) -> np.ndarray:
    """Codes int8 (n,) of -8 to 7, two in a byte: uint8 (ceil(n / 2),)."""
    halves = np.full(len(codes) + len(codes) % 2, 8, np.uint8)
    halves[: len(codes)] = codes + 8
    return halves[::2] | halves[1::2] << 4


def unpack_halves(packed: np.ndarray, entries: int) -> np.ndarray:
    """The inverse: int8 (entries,). Raises `FedgateError` where the half of nothing is not as written."""
    halves = np.stack([packed & 15, packed >> 4], axis=1).ravel()
    if (halves[entries:] != 8).any():
        raise FedgateError("the update's 'values' holds a code after the last")
    return halves[:entries].astype(np.int8) - np.int8(8)


def split(tensor: np.ndarray, shapes: Shapes) -> Slices:
    """Cut a flat tensor into named parts of these shapes."""
    ends = [0, *accumulate(map(count, shapes.values()))]
    return {name: tensor[ends[i] : ends[i + 1]].reshape(shape) for i, (name, shape) in enumerate(shapes.items())}


def joined(arrays, dtype) -> np.ndarray:
    """Arrays, row-major, one after the other."""
    return np.concatenate([np.zeros(0, dtype), *(np.asarray(a).astype(dtype).ravel() for a in arrays)])


def count(shape) -> int:
    return math.prod(shape)
