"""A shared library of Android, changed in its dynamic section alone so that glibc's loader takes it."""

import struct

from fedgate.device_runtime.errors import FedgateError

HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SECTION = struct.Struct("<IIQQQQIIQQ")
DYNAMIC = struct.Struct("<qQ")
SYMBOL = struct.Struct("<IBBHQQ")
SHT_DYNAMIC, SHT_DYNSYM = 6, 11
DT_NEEDED, DT_SONAME = 1, 14
VERSIONS = {0x6FFFFFF0, 0x6FFFFFFC, 0x6FFFFFFD, 0x6FFFFFFE, 0x6FFFFFFF}  # DT_VERSYM, _VERDEF, _VERNEED, their counts
IGNORED = 0x6FFFF000  # a number left to operating systems, that none of them uses


def adapt(library: bytes, renamed: set[str]) -> bytes:
    """A copy without versions of symbols, in which the `renamed` names have a capital letter, as `capital` says.

    Nothing moves: each change overwrites a byte or a number. Raises `FedgateError` for what is no 64-bit little-endian
    library with its section headers, and where another name's bytes would change, too.
    """
    image = bytearray(library)
    try:
        _adapt(image, renamed)
    except (struct.error, IndexError, ValueError) as error:
        raise FedgateError(f"this is no library of Android: {error}") from error
    return bytes(image)


def _adapt(image: bytearray, renamed: set[str]) -> None:
    ident, *header = HEADER.unpack_from(image)
    if ident[:6] != b"\x7fELF\x02\x01":
        raise ValueError("it is no 64-bit little-endian ELF file")
    sections = [SECTION.unpack_from(image, header[5] + i * header[10]) for i in range(header[11])]
    (dynamic,) = [section for section in sections if section[1] == SHT_DYNAMIC]
    (symbols,) = [section for section in sections if section[1] == SHT_DYNSYM]
    _, _, _, _, names, length, *_ = sections[symbols[6]]
    used = set()
    for position in range(dynamic[4], dynamic[4] + dynamic[5], DYNAMIC.size):
        tag, value = DYNAMIC.unpack_from(image, position)
        if tag in VERSIONS:
            DYNAMIC.pack_into(image, position, IGNORED, value)
        elif tag in (DT_NEEDED, DT_SONAME):
            used.add(value)
    for position in range(symbols[4], symbols[4] + symbols[5], SYMBOL.size):
        used.add(SYMBOL.unpack_from(image, position)[0])
    strings = bytes(image[names : names + length])
    texts = {at: strings[at : strings.index(b"\0", at)].decode() for at in used}
    places = {at + capital(text, renamed) for at, text in texts.items() if text in renamed}
    for at, text in texts.items():
        # a linker stores a name as the end of a longer one where it can
        changed = {place - at for place in places if at <= place < at + len(text)}
        if changed - ({capital(text, renamed)} if text in renamed else set()):
            raise ValueError(f"the name {text} would change with another one")
    for place in places:
        image[names + place] = strings[place : place + 1].upper()[0]


def capital(name: str, renamed: set[str]) -> int:
    """Which letter of a renamed name becomes a capital: the first of the shortest renamed name that it ends in."""
    return len(name) - min(len(other) for other in renamed if name.endswith(other))
