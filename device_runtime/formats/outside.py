"""Programs that would read another file: one that no manifest names and nobody has hashed.

What each format can name, and what is done about it:

- ONNX: any tensor's values may lie in a file (`data_location`, `external_data`), also in a node's attributes, in the
  graphs of If, Loop and Scan, in functions, in sparse tensors and in training graphs. ONNX Runtime reads them even for
  a program that it is given as bytes, from the working folder. The whole file is walked, and any such tensor refused.
  A file of ONNX Runtime's own format could have them too; a session is told to take ONNX alone (`engines.onnx`).
- LiteRT: a model may list groups of external buffers, each the name of a file. Any is refused. Buffers behind the
  model, and metadata, lie in the same file.
- ExecuTorch: a program may leave tensors to a data file (.ptd), but cannot name one: it gets the one file that a
  `train-module` is given, which its manifest names, or none.

No runtime loads a library because a program asks for its operators: those of the kernel are registered by us.
"""

import struct
from collections.abc import Iterator

from ..errors import FedgateError
from ..text import printable


class DamagedError(FedgateError):
    """A program that is none, so that nobody can say what it would read."""


def refuse_outside(runtime: str, file: str, data: bytes) -> None:
    """Raise a `FedgateError` for a program (of this runtime, with these bytes) that would read another file.

    Raises `DamagedError` for one of which that cannot be told; its runtime would refuse it too.
    """
    try:
        found = {"onnx": _onnx, "litert": _litert}.get(runtime, lambda data: None)(memoryview(data))
    except (ValueError, IndexError, struct.error) as error:
        raise DamagedError(f"{runtime} refuses to load {file}: it is damaged, or no program of {runtime}") from error
    if found:
        raise FedgateError(f"{file} is refused: {found}, a file that its bundle does not hash")


# onnx.proto: message -> field -> the message in it. What is not listed holds no tensors.
_MESSAGES = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "tensor": {},
}
_TENSOR_NAME, _EXTERNAL_DATA, _DATA_LOCATION = 8, 13, 14
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def _onnx(data: memoryview) -> str | None:
    waiting = [("model", data)]
    while waiting:
        kind, message = waiting.pop()
        name, outside = "", False
        for field, wire, value in _fields(message):
            inner = _MESSAGES[kind].get(field)
            if inner is not None:
                if wire != _BYTES:
                    raise ValueError(f"field {field} of a {kind} is no message")
                waiting.append((inner, value))
            elif kind == "tensor" and field == _TENSOR_NAME and wire == _BYTES:
                name = bytes(value[:100]).decode("utf-8", "replace")
            elif kind == "tensor" and field in (_EXTERNAL_DATA, _DATA_LOCATION):
                outside |= field == _EXTERNAL_DATA or wire != _VARINT or value != 0
        if outside:
            return f"the values of its tensor '{printable(name)}' lie in another file"
    return None


def _fields(message: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """(number, wire type, value) of each field of a protobuf message."""
    at, size = 0, len(message)

    def varint():
        nonlocal at
        value = 0
        for shift in range(0, 70, 7):
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("a number is too long")

    while at < size:
        key = varint()
        # a reader keeps the low 32 bits alone
        wire, number = key & 7, (key & 0xFFFFFFFF) >> 3
        if wire == _VARINT:
            value = varint()
        else:
            length = {_FIXED64: 8, _FIXED32: 4}.get(wire)
            if wire == _BYTES:
                length = varint()
            if length is None or length > size - at:
                raise ValueError("it ends early" if length is not None else f"wire type {wire}")
            value, at = message[at : at + length], at + length
        yield number, wire, value


_EXTERNAL_BUFFERS = (8, 9)  # the fields of a model's table: groups, and the buffers in them


def _litert(data: memoryview) -> str | None:
    (root,) = struct.unpack_from("<I", data)
    (back,) = struct.unpack_from("<i", data, root)
    table = root - back
    if table < 0:
        raise ValueError("its root is nowhere")
    (size,) = struct.unpack_from("<H", data, table)
    for field in _EXTERNAL_BUFFERS:
        at = 4 + 2 * field
        if at + 2 <= size and struct.unpack_from("<H", data, table + at)[0]:
            return "some of its buffers lie in another file"
    return None
