"""A picture file as upright 8-bit pixels, gray or RGB, with or without alpha."""

import contextlib
import io
import stat
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import FedgateError
from .formats import HEAD, missing_plugin, read_head, readable, sniff

MOST_PIXELS = 89_478_485  # Pillow's own bound: a picture of more is an attack or a mistake
# Pillow only warns of such a picture; `open_picture` refuses it, and threads cannot each have filters of their own.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def open_picture(source: Path | str | bytes, name: str) -> Image.Image:
    """Decode a picture, a path or the bytes of a file: an image of mode L, LA, RGB or RGBA.

    Turned as its EXIF or XMP orientation says; of animations the first frame; 16 bits a channel are cut to the upper 8.
    name: what to call it in the `FedgateError` for what is no picture, is damaged, or has more than `MOST_PIXELS`.
    """
    try:
        if not isinstance(source, bytes) and not stat.S_ISREG(Path(source).stat().st_mode):
            raise ValueError("not a file")
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=readable()) as image:
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels, and at most {MOST_PIXELS:,} are read")
            image.load()
            _turn(image)
            return _plain(image)
    except UnidentifiedImageError as error:
        raise FedgateError(f"cannot read the picture {name}: {_not_identified(source)}") from error
    except Image.DecompressionBombError as error:
        raise FedgateError(f"cannot read the picture {name}: more than {MOST_PIXELS:,} pixels") from error
    except OSError as error:
        reason = error.strerror or str(error) or "damaged"
        raise FedgateError(f"cannot read the picture {name}: {' '.join(reason.split())}") from error
    except Exception as error:  # damaged files make Pillow's decoders raise nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FedgateError(f"cannot read the picture {name}: {reason}") from error


def is_gray(image: Image.Image) -> bool:
    """Whether an image by `open_picture` has no colours."""
    return image.mode in ("L", "LA")


def _not_identified(source) -> str:
    head = source[:HEAD] if isinstance(source, bytes) else read_head(source)
    kind = sniff(head)
    if not head:
        return "it is empty"
    return (kind and missing_plugin(kind)) or "not a picture"


def _turn(image: Image.Image) -> None:
    # Junk for EXIF is no reason to lose a picture: what cannot be read turns nothing.
    with contextlib.suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)


def _plain(image: Image.Image) -> Image.Image:
    """One of four modes. 16-bit gray is scaled here, since Pillow's own conversion clips it at 255."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        wide = np.asarray(image).astype(np.int64)
        gray = Image.fromarray((wide >> 8).astype(np.uint8))
        clear = image.info.get("transparency")
        if isinstance(clear, int):
            gray.putalpha(Image.fromarray(np.where(wide == clear, 0, 255).astype(np.uint8)))
        return gray
    if image.mode in ("I", "F"):
        raise ValueError(f"its pixels have mode {image.mode}, whose range is not known: convert it to 8 bits")
    gray = image.mode in ("1", "L", "LA", "La")
    if image.mode == "La":  # colours multiplied with alpha
        image = image.convert("LA")
    if image.has_transparency_data:
        return image.convert("RGBA").convert("LA" if gray else "RGBA")
    mode = "L" if gray else "RGB"
    return image if image.mode == mode else image.convert(mode)
