"""Class files: which others they name, and how dx is made to take those of Java 11."""

import re
import struct
from collections.abc import Iterable

from fedgate.device_runtime.errors import FedgateError

JAVA_8 = 52
PRIVATE = 0x0002
UTF8 = 1
# sizes of the other constants behind their tag; long and double take two places
SIZES = {3: 4, 4: 4, 5: 8, 6: 8, 7: 2, 8: 2, 9: 4, 10: 4, 11: 4, 12: 4, 15: 3, 16: 2, 17: 4, 18: 4, 19: 2, 20: 2}
TWICE = (5, 6)
DESCRIBED = re.compile(r"L([\w/$-]+)[;<]")


def constants(data: bytes) -> tuple[list[str], int]:
    """The texts among the constants of a class file, and the offset behind all constants.

    Raises `FedgateError` for what is no class file.
    """
    texts, offset = [], 10
    try:
        magic, _, _, count = struct.unpack_from(">IHHH", data)
        if magic != 0xCAFEBABE:
            raise ValueError("it begins with other bytes")
        index = 1
        while index < count:
            tag = data[offset]
            if tag == UTF8:
                (length,) = struct.unpack_from(">H", data, offset + 1)
                # Java's own UTF-8 differs only where no name of a class has anything
                texts.append(data[offset + 3 : offset + 3 + length].decode("utf-8", "replace"))
                offset += 3 + length
            else:
                offset += 1 + SIZES[tag]
            index += 2 if tag in TWICE else 1
    except (struct.error, IndexError, KeyError, ValueError) as error:
        raise FedgateError(f"this is no class file: {error}") from error
    return texts, offset


def digestible(data: bytes) -> bytes:
    """A class file as of Java 8.

    In Java 11 the classes of one nest may use each other's private members; a machine that knows no nests must not see
    them as private. Raises `FedgateError` for what is no class file.
    """
    image = bytearray(data)
    _, offset = constants(data)
    if struct.unpack_from(">H", image, 6)[0] > JAVA_8:
        struct.pack_into(">HH", image, 4, 0, JAVA_8)
    try:
        (interfaces,) = struct.unpack_from(">H", image, offset + 6)
        offset += 8 + 2 * interfaces
        for _ in ("fields", "methods"):
            (members,) = struct.unpack_from(">H", image, offset)
            offset += 2
            for _ in range(members):
                flags, _, _, attributes = struct.unpack_from(">HHHH", image, offset)
                struct.pack_into(">H", image, offset, flags & ~PRIVATE)
                offset += 8
                for _ in range(attributes):
                    offset += 6 + struct.unpack_from(">I", image, offset + 2)[0]
    except struct.error as error:
        raise FedgateError(f"this is no class file: {error}") from error
    return bytes(image)


def reachable(classes: dict[str, bytes], roots: Iterable[str]) -> set[str]:
    """The names ("a/b/C") of `classes` that the roots name, directly or not, in any text: also those of reflection."""
    found, left = set(), set(roots) & set(classes)
    while left:
        name = left.pop()
        found.add(name)
        texts, _ = constants(classes[name])
        # a name alone, with the dots of reflection, or within a descriptor
        named = {name for text in texts for name in (text, text.replace(".", "/"), *DESCRIBED.findall(text))}
        left |= (named & set(classes)) - found
    return found
