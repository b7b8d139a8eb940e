"""A shared library of Android, changed in its dynamic section alone so that glibc's loader takes it."""

import re
import struct

from fedgate.device_runtime.errors import FedgateError

HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SECTION = struct.Struct("<IIQQQQIIQQ")
DYNAMIC = struct.Struct("<qQ")
SYMBOL = struct.Struct("<IBBHQQ")
SHT_DYNAMIC, SHT_DYNSYM = 6, 11
DT_NEEDED, DT_SONAME = 1, 14
VERSIONS = {0x6FFFFFF0, 0x6FFFFFFC, 0x6FFFFFFD, 0x6FFFFFFE, 0x6FFFFFFF}  # DT_VERSYM, _VERDEF, _VERNEED, their counts
# The C++ runtime for exceptions, apart from what libc has of it. The JVM brings GCC's, and names found in the program
# come first: an exception thrown by one of the two and unwound by the other ends the process.
RUNTIME = re.compile(
    r"__cxa_(?!atexit|finalize|thread_atexit)|__gxx_|__dynamic_cast|_Z(T[ISV])?N?K?St(?!6__ndk)|_Z(T[ISV])?N?K?10__cxxabiv1|"
    r"_ZT[IS]P?K?D?[a-z]$"
)
IGNORED = 0x6FFFF000  # a number left to operating systems, that none of them uses


def adapt(library: bytes, renamed: set[str]) -> bytes:
    """A copy without versions of symbols, in which the `renamed` names have a capital letter, as `capital` says, and
    those of the C++ runtime are nobody else's, as `hidden` says.

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
    changes = {at + place: letter for at, text in texts.items() for place, letter in _letters(text, renamed).items()}
    for at, text in texts.items():
        # a linker stores a name as the end of a longer one where it can
        wanted = {at + place: letter for place, letter in _letters(text, renamed).items()}
        if wanted != {place: changes[place] for place in range(at, at + len(text)) if place in changes}:
            raise ValueError(f"the name {text} would change with another one")
    for place, letter in changes.items():
        image[names + place] = letter


def _letters(name: str, renamed: set[str]) -> dict[int, int]:
    """The letters of a name that change: place -> new one."""
    if name in renamed:
        place = capital(name, renamed)
        return {place: ord(name[place].upper())}
    return dict(enumerate(hidden(name)[:2].encode("latin-1"))) if RUNTIME.match(name) else {}


def hidden(name: str) -> str:
    """Another name with the same hash (h = 33 h + letter), so that it is found where the first one was."""
    return chr(ord(name[0]) + 1) + chr(ord(name[1]) - 33) + name[2:]


def capital(name: str, renamed: set[str]) -> int:
    """Which letter of a renamed name becomes a capital: the first of the shortest renamed name that it ends in."""
    return len(name) - min(len(other) for other in renamed if name.endswith(other))
