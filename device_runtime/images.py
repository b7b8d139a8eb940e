"""A picture file as a network's input, as a bundle's manifest says."""

from pathlib import Path

import numpy as np

from .errors import FedgateError
from .formats.manifest import Manifest
from .pictures.decode import open_picture
from .pictures.fit import to_pixels


def load_image(path: Path, manifest: Manifest) -> np.ndarray:
    """A picture as float32 (1, C, H, W): `load_pixels`, scaled to [0, 1], normalised."""
    return normalise(load_pixels(path, manifest), manifest)


def load_pixels(path: Path, manifest: Manifest) -> np.ndarray:
    """A picture as uint8 (H, W, C), by the rule of `pictures.fit`.

    Raises `FedgateError` for a file that is no picture, or a network that takes neither 1 nor 3 channels.
    """
    _, channels, height, width = manifest.shape
    if channels not in (1, 3):
        raise FedgateError(f"this network takes {channels} channels, and a picture has 1 or 3")
    return to_pixels(open_picture(path, str(path)), channels, (width, height), manifest.background)


def normalise(pixels: np.ndarray, manifest: Manifest) -> np.ndarray:
    """uint8 (H, W, C) -> float32 (1, C, H, W): scaled to [0, 1], then (x - mean) / std by channel."""
    scaled = pixels.astype(np.float32) / np.float32(255)
    normal = (scaled - np.float32(manifest.mean)) / np.float32(manifest.std)
    return np.ascontiguousarray(normal.transpose(2, 0, 1)[None], np.float32)
