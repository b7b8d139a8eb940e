"""Many encoded pictures as one array of pixels, decoded by all CPUs."""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch

from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.pictures.decode import is_gray, open_picture
from fedgate.device_runtime.pictures.fit import to_pixels
from fedgate.device_runtime.text import name_some

LARGEST_SIDE = 224
CHUNK = 64  # pictures a task: small ones take less time than a task does
NAMED = 50  # damaged pictures in one error


class Encoded(NamedTuple):
    """A picture that is not decoded yet: a file's path or the bytes of one, and what to call it in an error."""

    source: str | bytes
    name: str


class Reading(NamedTuple):
    """How pictures are to be read. size: of the square they become, in pixels, None to keep theirs; background: RGB."""

    size: int | None = None
    background: tuple[int, int, int] = (255, 255, 255)
    skip_unreadable: bool = False


def decode_images(encoded: list[Encoded], reading: Reading) -> tuple[torch.Tensor, np.ndarray, tuple[str, ...]]:
    """Encoded pictures -> uint8 (N, C, H, W), C = 1 where all are gray and else 3; which were read; notes for the user.

    Pictures of one size whose shorter side is at most 224 pixels stay as they are. Others, and all where a size is
    given, become squares by the rule of `pictures.fit`, of 224 pixels by default, which is the custom for ImageNet.
    The second value is bool, one for each of `encoded`; N is the number of those that are True. Raises `FedgateError`,
    which names all that cannot be read, unless they are to be skipped.
    """
    wanted, why = None if reading.size is None else (reading.size,) * 2, ""
    if wanted is None:
        wanted = _first_size(encoded)
        if min(wanted) <= LARGEST_SIDE:
            decoded = _decode(encoded, wanted, reading.background, same_size=True)
            if decoded is not None:
                return *_checked(encoded, *decoded, reading.skip_unreadable), ()
        wanted, why = (LARGEST_SIDE,) * 2, ": they differ in size or are larger (choose another size with --image-size)"
    pixels, read = _checked(encoded, *_decode(encoded, wanted, reading.background), reading.skip_unreadable)
    return pixels, read, (f"images are scaled and cropped to {wanted[0]}x{wanted[1]}{why}",)


def read_images(encoded: list[Encoded], shape: tuple[int, int, int], background) -> torch.Tensor:
    """Encoded pictures as a network takes them: uint8 (N, C, H, W) for `shape` (C, H, W)."""
    channels, height, width = shape
    decoded = _decode(encoded, (width, height), background, channels=channels)
    return _checked(encoded, *decoded, skip=None)[0]


def _first_size(encoded: list[Encoded]) -> tuple[int, int]:
    """The size (W, H) of the first picture that can be read; (1, 1) where none can, which `_decode` then tells."""
    for source, name in encoded:
        try:
            return open_picture(source, name).size
        except FedgateError:
            continue
    return 1, 1


def _decode(encoded, wanted: tuple[int, int], background, same_size=False, channels=None):
    """(uint8 (N, H, W, C), damage) where damage maps an index to its reason; None at one of another size if same_size.

    wanted: (W, H). channels: by default 3, or 1 where all that can be read are gray.
    """
    width, height = wanted
    pixels = np.zeros((len(encoded), height, width, channels or 3), np.uint8)
    gray_ground = len(set(background)) == 1
    coloured, damage, misfits = [], {}, []

    def decode(start):
        for i in range(start, min(start + CHUNK, len(encoded))):
            if misfits:
                return
            try:
                image = open_picture(*encoded[i])
            except FedgateError as error:
                damage[i] = str(error)
                continue
            if same_size and image.size != wanted:
                misfits.append(i)
                return
            if not is_gray(image) or (image.mode == "LA" and not gray_ground):
                coloured.append(i)
            pixels[i] = to_pixels(image, channels or 3, wanted, background)

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(decode, range(0, len(encoded), CHUNK)))
    if misfits:
        return None
    return (pixels if channels or coloured else pixels[..., :1]), damage


def _checked(encoded, pixels, damage, skip):
    """(uint8 (N, C, H, W), which were read) of those that could be; an error for those that could not, unless skip.

    skip: None where the user cannot choose.
    """
    if damage and (not skip or len(damage) == len(encoded)):
        if len(damage) == 1:
            way = "" if skip is None else ", or give --skip-unreadable"
            raise FedgateError(f"{next(iter(damage.values()))}; repair or remove it{way}")
        told = "; ".join(damage[i].removeprefix("cannot read the picture ") for i in sorted(damage)[:NAMED])
        more = f" and {len(damage) - NAMED:,} more" if len(damage) > NAMED else ""
        way = "" if skip is None else ", or leave them out with --skip-unreadable"
        raise FedgateError(
            f"cannot read {len(damage):,} of {len(encoded):,} pictures: {told}{more}; repair or remove them{way}"
        )
    read = np.ones(len(encoded), bool)
    read[list(damage)] = False
    tensor = torch.from_numpy(pixels[read] if damage else pixels)
    return tensor.permute(0, 3, 1, 2).contiguous(), read


def unreadable_note(encoded: list[Encoded], read: np.ndarray) -> tuple[str, ...]:
    """What to tell of the pictures that were skipped."""
    names = [one.name for one, good in zip(encoded, read, strict=True) if not good]
    return (f"left out, cannot be read: {name_some(names)}",) if names else ()
