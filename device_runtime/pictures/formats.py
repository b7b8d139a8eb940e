"""Which files are pictures: by the end of their names, or else by their first bytes."""

import contextlib
import functools
import importlib
from pathlib import Path

from PIL import Image, features

# The end of a name, in lower case -> Pillow's name of the format.
SUFFIXES = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"), "JPEG"),
    **dict.fromkeys((".png", ".apng"), "PNG"),
    ".gif": "GIF",
    **dict.fromkeys((".bmp", ".dib"), "BMP"),
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    ".webp": "WEBP",
    **dict.fromkeys((".ppm", ".pgm", ".pbm", ".pnm"), "PPM"),
    **dict.fromkeys((".jp2", ".j2k", ".jpx", ".jpf"), "JPEG2000"),
    **dict.fromkeys((".avif", ".avifs"), "AVIF"),
    **dict.fromkeys((".heic", ".heif", ".hif"), "HEIF"),
}
# What Pillow may try, whatever a file is called: never EPS, which it hands to Ghostscript, nor formats without a mark.
FORMATS = tuple(dict.fromkeys(SUFFIXES.values()))
PLUGINS = {"HEIF": ("HEIC", "pillow-heif"), "AVIF": ("AVIF", "pillow-avif-plugin")}
# Raw files of cameras are TIFF by their first bytes, and what Pillow finds in them is a thumbnail.
RAW = {".dng", ".cr2", ".nef", ".nrw", ".arw", ".orf", ".rw2", ".pef", ".srw", ".3fr", ".erf", ".iiq", ".kdc", ".dcr"}
HEAD = 64  # bytes that tell a format


@functools.cache
def readable() -> tuple[str, ...]:
    """The formats of `FORMATS` that can be decoded here; plugins that are installed are taken up."""
    Image.init()
    with contextlib.suppress(ImportError):
        importlib.import_module("pillow_heif").register_heif_opener()
    avif = features.check("avif")
    with contextlib.suppress(ImportError):  # for a Pillow without: importing it is enough
        importlib.import_module("pillow_avif")
        avif = True
    return tuple(name for name in FORMATS if name in Image.OPEN and (name != "AVIF" or avif))


def sniff(head: bytes) -> str | None:
    """The format that a file's first `HEAD` bytes tell; None for none of `FORMATS`."""
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head.startswith(b"BM") and head[6:10] == bytes(4) and head[14:18] in _BMP_HEADERS:
        return "BMP"
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    if head.startswith((b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")):
        return "JPEG2000"
    if head[4:8] == b"ftyp":
        size = min(max(int.from_bytes(head[:4], "big"), 16), HEAD)
        brands = {head[8:12], *(head[i : i + 4] for i in range(16, size, 4))}
        if brands & {b"avif", b"avis"}:
            return "AVIF"
        if brands & {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}:
            return "HEIF"
    return None


_BMP_HEADERS = {size.to_bytes(4, "little") for size in (12, 16, 40, 52, 56, 64, 108, 124)}


def read_head(path: Path | str) -> bytes:
    """The first `HEAD` bytes of a regular file; b"" where they cannot be read, which decoding then says."""
    try:
        with open(path, "rb") as file:
            return file.read(HEAD)
    except OSError:
        return b""


def picture_format(path: Path | str) -> str | None:
    """The format of a regular file if it is a picture, else None. Only odd names are opened.

    A known end of the name makes it a picture even where its contents are damaged: then decoding says so.
    """
    suffix = Path(path).suffix.lower()
    known = SUFFIXES.get(suffix)
    if known is None:
        return None if suffix in RAW else sniff(read_head(path))
    # Phones write JPEG into files that are called .heic
    return (sniff(read_head(path)) or known) if known in PLUGINS else known


def missing_plugin(name: str) -> str | None:
    """What to install for a format that cannot be decoded here; None for one that can."""
    if name in readable():
        return None
    title, package = PLUGINS[name]
    return f"{title} needs a plugin: pip install {package}"
