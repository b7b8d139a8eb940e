"""The rule "crop": how a decoded picture becomes a network's pixels. Manifests name it as `input.fit`.

1. What is transparent is laid on the background: round((c * a + b * (255 - a)) / 255) for each channel.
2. Gray networks take ITU-R 601 luma, (19595 R + 38470 G + 7471 B + 2^15) >> 16, others RGB.
3. The middle is cropped to the network's shape, in whole pixels.
4. It is resized bicubically (a = -0.5, antialiased, as Pillow does in fixed point): widths first, rounded to 8 bits,
   then heights. A picture of the right size stays as it is.
"""

import numpy as np
from PIL import Image, ImageColor

from ..errors import UsageError


def to_pixels(image: Image.Image, channels: int, size: tuple[int, int], background) -> np.ndarray:
    """An image by `decode.open_picture` as uint8 (H, W, C).

    channels: 1 or 3. size: (W, H) in pixels. background: (R, G, B), each 0 to 255.
    """
    image = _opaque(image, tuple(background)).convert("L" if channels == 1 else "RGB")
    image = image.crop(crop_box(image.size, size))
    width, height = size
    # Two calls, since Pillow chooses by the sizes which direction comes first, and rounds in between.
    if image.width != width:
        image = image.resize((width, image.height), Image.Resampling.BICUBIC)
    if image.height != height:
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image).reshape(height, width, channels)


def crop_box(size: tuple[int, int], wanted: tuple[int, int]) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the largest middle of a (w, h) picture that has the shape of `wanted` (W, H)."""
    (width, height), (to_width, to_height) = size, wanted
    crop_width, crop_height = width, height
    if width * to_height >= height * to_width:
        crop_width = min(width, max(1, (2 * height * to_width + to_height) // (2 * to_height)))
    else:
        crop_height = min(height, max(1, (2 * width * to_height + to_width) // (2 * to_width)))
    left, top = (width - crop_width) // 2, (height - crop_height) // 2
    return left, top, left + crop_width, top + crop_height


def _opaque(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    if image.mode not in ("LA", "RGBA"):
        return image
    ground = Image.new("RGB", image.size, background)
    ground.paste(image.convert("RGB"), mask=image.getchannel("A"))
    return ground


def parse_colour(text: str) -> tuple[int, int, int]:
    """A colour by its HTML name, as #RRGGBB, or as R,G,B of 0 to 255. Raises `UsageError` for anything else."""
    try:
        parts = [int(part) for part in text.split(",")] if "," in text and "(" not in text else None
        colour = tuple(ImageColor.getrgb(text)[:3] if parts is None else parts)
    except ValueError as error:
        raise UsageError(f"'{text}' is no colour: give a name such as white, #RRGGBB, or R,G,B of 0 to 255") from error
    if len(colour) != 3 or not all(0 <= value <= 255 for value in colour):
        raise UsageError(f"'{text}' is no colour: give three numbers of 0 to 255")
    return colour
