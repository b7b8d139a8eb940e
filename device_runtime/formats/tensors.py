"""Tensor files: safetensors whose metadata has the one key "fedgate", whose value is canonical JSON.

One key, because the library writes several in random order, and files of the same content must have the same hash.
Reading is meant for files from strangers: whatever is wrong ends as a `FedgateError`.
"""

import hashlib
import struct
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from ..errors import FedgateError
from ..storage import read_file, write_file
from ..text import printable
from .checks import canonical_json, parse_json

KEY = "fedgate"

# The dtypes that are written and read. Others (bf16, fp8, bool bytes that are neither 0 nor 1) have no exact numpy
# counterpart, and no file of ours holds them.
DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I8": np.dtype("i1"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
}


def pack(tensors: dict[str, np.ndarray], meta: dict) -> bytes:
    """One safetensors blob of `tensors` and the JSON object `meta`; the same bytes for the same content.

    Raises `FedgateError` for a dtype outside `DTYPES` or a `meta` that is not strict JSON.
    """
    return safetensors.numpy.save(
        {name: _plain(name, tensor) for name, tensor in tensors.items()}, {KEY: canonical_json(meta)}
    )


def unpack(
    blob: bytes, where: str = "the tensor file", most_header: int | None = None
) -> tuple[dict[str, np.ndarray], dict]:
    """The tensors (sorted by name; treat them as read-only) and the metadata object of a blob by `pack`.

    most_header: bytes of a stranger's header, which is not parsed where it says that it has more.
    Raises `FedgateError`, naming `where`, for anything else: truncated, wrong sizes, unknown dtype, no metadata.
    """
    try:
        if most_header is not None and len(blob) >= 8 and struct.unpack_from("<Q", blob)[0] > most_header:
            raise FedgateError(f"its header is longer than {most_header} bytes")
        parts = safetensors.deserialize(bytes(blob))
        (length,) = struct.unpack_from("<Q", blob)
        header = parse_json(bytes(blob[8 : 8 + length]), "its header")
        text = (header.get("__metadata__") or {}).get(KEY)
        if text is None:
            raise FedgateError(f"its metadata has no '{KEY}'")
        meta = parse_json(text, "its metadata")
        if not isinstance(meta, dict):
            raise FedgateError("its metadata is not an object")
        return {name: _array(name, part) for name, part in sorted(parts)}, meta
    except (safetensors.SafetensorError, FedgateError, ValueError, TypeError, OverflowError) as error:
        # the library quotes a stranger's names as they are: no control characters and no pages of text from there
        reason = printable(str(error)[:300])
        raise FedgateError(f"{where} is not a fedgate tensor file: {reason}") from error


def write_tensors(path: Path, tensors: dict[str, np.ndarray], meta: dict) -> None:
    """`pack` to a file, atomically."""
    write_file(path, pack(tensors, meta))


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict]:
    """`unpack` a file."""
    return unpack(read_file(path), str(path))


def tensors_hash(tensors: dict[str, np.ndarray]) -> str:
    """SHA-256 in hex over the sorted names, dtypes, shapes and little-endian values of `tensors`."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = _plain(name, tensors[name])
        head = canonical_json([name, tensor.dtype.name, list(tensor.shape)])
        digest.update(struct.pack("<Q", len(head)) + head.encode() + tensor.tobytes())
    return digest.hexdigest()


def _plain(name: str, tensor: np.ndarray) -> np.ndarray:
    """The tensor dense, C-ordered and little-endian: safetensors writes the memory as it lies."""
    tensor = np.asarray(tensor, order="C")
    dtype = tensor.dtype.newbyteorder("<")
    if dtype not in DTYPES.values():
        raise FedgateError(f"tensor '{name}' has dtype {tensor.dtype}, which is not written")
    return tensor.astype(dtype, copy=False)


def _array(name: str, part: dict) -> np.ndarray:
    dtype = DTYPES.get(part["dtype"])
    if dtype is None:
        raise FedgateError(f"tensor {name!r} has dtype {part['dtype']}, which is not read")
    return np.frombuffer(part["data"], dtype).reshape(part["shape"])
