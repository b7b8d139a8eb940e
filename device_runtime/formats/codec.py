"""How the slices of an update become flat tensors, and back, by the codecs of `codec_table`."""

import math
from itertools import accumulate

import numpy as np

from ..errors import FedgateError
from .codec_table import BITS, CODECS

__all__ = ["CODECS", "count", "decode_slices", "encode_slices", "joined", "split", "tensor_lengths"]

VARIANCE = "running_var"  # what ends so is never below 0: rounding must not make it so

Shapes = dict[str, tuple[int, ...]]
Slices = dict[str, np.ndarray]


def tensor_lengths(codec: str, shapes: Shapes) -> dict[str, tuple[np.dtype, int]]:
    """The flat tensors that slices of these shapes become: name -> (dtype, length)."""
    sizes = {name: count(shape) for name, shape in shapes.items()}
    if codec not in BITS:
        return {"values": (np.dtype("f4" if codec == "fp32" else "f2"), sum(sizes.values()))}
    matrices = [name for name, shape in shapes.items() if len(shape) > 1]
    entries = sum(sizes[name] for name in matrices)
    bits = BITS[codec]
    return {
        "values": (np.dtype("i1" if bits == 8 else "u1"), -(-entries * bits // 8)),
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
    most, random, values, scales, vectors = largest(codec), np.random.default_rng(seed), [], [], []
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
    return {
        "values": pack_codes(joined(values, np.int8), BITS[codec]),
        "scales": joined(scales, np.float32),
        "vectors": joined(vectors, np.float16),
    }


@np.errstate(over="ignore", invalid="ignore")  # the results are looked at
def decode_slices(codec: str, tensors: Slices, shapes: Shapes, base: Slices) -> Slices:
    """The inverse: float32 slices by name. tensors: of the dtypes and lengths of `tensor_lengths`, finite.

    Raises `FedgateError` for a code or a scale that no encoder writes, and for results that are not finite or
    variances below 0.
    """
    if codec in BITS:
        entries = sum(count(shape) for shape in shapes.values() if len(shape) > 1)
        tensors = tensors | {"values": unpack_codes(tensors["values"], BITS[codec], entries)}
        if tensors["values"].min(initial=0) < -largest(codec):
            raise FedgateError(f"the update's 'values' holds a code below {-largest(codec)}")
        if tensors["scales"].min(initial=0) < 0:
            raise FedgateError("the update's 'scales' holds a number below 0")
    slices, at = {}, dict.fromkeys(tensors, 0)

    def next_part(key, shape):
        start, at[key] = at[key], at[key] + count(shape)
        return tensors[key][start : at[key]].reshape(shape)

    for name, shape in shapes.items():
        if codec in BITS and len(shape) > 1:
            scale = next_part("scales", shape[:1]).reshape(-1, *[1] * (len(shape) - 1))
            part = next_part("values", shape) * scale
        else:
            part = next_part("vectors" if codec in BITS else "values", shape)
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


def largest(codec):
    """The largest value of a code."""
    return 2 ** (BITS[codec] - 1) - 1


def pack_codes(codes: np.ndarray, bits: int) -> np.ndarray:
    """Codes int8 (n,) as they lie in a blob: themselves at 8 bits, else uint8 (ceil(n * bits / 8),)."""
    if bits == 8:
        return codes
    each, zero = 8 // bits, 2 ** (bits - 1)
    parts = np.full(-(-len(codes) // each) * each, zero, np.uint8)
    parts[: len(codes)] = codes + zero
    return np.bitwise_or.reduce(parts.reshape(-1, each) << np.arange(0, 8, bits, dtype=np.uint8), axis=1)


def unpack_codes(packed: np.ndarray, bits: int, entries: int) -> np.ndarray:
    """The inverse: int8 (entries,). Raises `FedgateError` where a part of nothing is not as written."""
    if bits == 8:
        return packed
    zero = 2 ** (bits - 1)
    parts = (packed[:, None] >> np.arange(0, 8, bits, dtype=np.uint8) & (2**bits - 1)).ravel()
    if (parts[entries:] != zero).any():
        raise FedgateError("the update's 'values' holds a code after the last")
    return parts[:entries].astype(np.int8) - np.int8(zero)


def split(tensor: np.ndarray, shapes: Shapes) -> Slices:
    """Cut a flat tensor into named parts of these shapes."""
    ends = [0, *accumulate(map(count, shapes.values()))]
    return {name: tensor[ends[i] : ends[i + 1]].reshape(shape) for i, (name, shape) in enumerate(shapes.items())}


def joined(arrays, dtype) -> np.ndarray:
    """Arrays, row-major, one after the other."""
    return np.concatenate([np.zeros(0, dtype), *(np.asarray(a).astype(dtype).ravel() for a in arrays)])


def count(shape) -> int:
    return math.prod(shape)
