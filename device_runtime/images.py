"""A picture file as pixels, and pixels as a network's input."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from .errors import FedgateError
from .manifest import Manifest


def load_image(path: Path, manifest: Manifest) -> np.ndarray:
    """A picture as float32 (1, C, H, W): `load_pixels`, scaled to [0, 1], normalised."""
    return normalise(load_pixels(path, manifest), manifest)


def load_pixels(path: Path, manifest: Manifest) -> np.ndarray:
    """A picture as uint8 (H, W, C): upright, gray or RGB, resized (bilinear).

    Raises `FedgateError` for a file that is no picture, or a network that takes neither 1 nor 3 channels.
    """
    _, channels, height, width = manifest.shape
    if channels not in (1, 3):
        raise FedgateError(f"this network takes {channels} channels, and a picture has 1 or 3")
    try:
        with warnings.catch_warnings():
            # a picture of more pixels than Pillow believes in is an attack or a mistake
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                picture = ImageOps.exif_transpose(picture)
                picture = _eight_bits(picture).convert("L" if channels == 1 else "RGB")
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    except OSError as error:
        raise FedgateError(f"cannot read the picture {path}: {error.strerror or 'not a picture'}") from error
    except Exception as error:  # damaged files make Pillow's decoders raise nearly anything
        raise FedgateError(f"cannot read the picture {path}: {error}") from error
    return np.asarray(picture).reshape(height, width, channels)


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Scale 16-bit gray, which Pillow's own conversion clips at 255."""
    if picture.mode in ("I", "F"):
        raise ValueError(f"its pixels have mode {picture.mode}, whose range is not known")
    if picture.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(picture).astype(np.uint16) >> 8).astype(np.uint8))
    return picture


def normalise(pixels: np.ndarray, manifest: Manifest) -> np.ndarray:
    """uint8 (H, W, C) -> float32 (1, C, H, W): scaled to [0, 1], then (x - mean) / std by channel."""
    scaled = pixels.astype(np.float32) / np.float32(255)
    normal = (scaled - np.float32(manifest.mean)) / np.float32(manifest.std)
    return np.ascontiguousarray(normal.transpose(2, 0, 1)[None], np.float32)
