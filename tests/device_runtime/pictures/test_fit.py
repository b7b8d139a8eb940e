"""The rule "crop", against naive sums and against Pillow."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fedgate.device_runtime.errors import UsageError
from fedgate.device_runtime.pictures.fit import crop_box, parse_colour, to_pixels

SIDES = st.integers(1, 400)


@given(SIDES, SIDES, SIDES, SIDES)
def test_the_crop_is_the_largest_middle_of_the_wanted_shape(width, height, to_width, to_height):
    left, top, right, bottom = crop_box((width, height), (to_width, to_height))
    assert 0 <= left < right <= width and 0 <= top < bottom <= height
    assert right - left == width or bottom - top == height
    assert left - (width - right) in (0, -1) and top - (height - bottom) in (0, -1)
    exact = min(width, height * to_width / to_height), min(height, width * to_height / to_width)
    assert abs(right - left - exact[0]) <= 0.5 + 1e-9 or right - left == 1
    assert abs(bottom - top - exact[1]) <= 0.5 + 1e-9 or bottom - top == 1


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_transparent_pixels_are_laid_on_the_background(width, height, to_width, to_height, seed):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (height, width, 4), dtype=np.uint8)
    ground = rng.integers(0, 256, 3)
    alpha = pixels[..., 3:].astype(int)
    exact = (pixels[..., :3] * alpha + ground * (255 - alpha)) / 255
    laid = Image.fromarray(np.floor(exact + 0.5).astype(np.uint8))
    found = to_pixels(Image.fromarray(pixels), 3, (to_width, to_height), ground.tolist())
    assert np.array_equal(found, to_pixels(laid, 3, (to_width, to_height), (0, 0, 0)))
    gray = to_pixels(Image.fromarray(pixels), 1, (to_width, to_height), ground.tolist())
    assert np.array_equal(gray, to_pixels(laid.convert("L"), 1, (to_width, to_height), (0, 0, 0)))


def cubic(x):
    """R. Keys, "Cubic Convolution Interpolation for Digital Image Processing", 1981, equation 15, with a = -0.5."""
    x = abs(x)
    return 1.5 * x**3 - 2.5 * x**2 + 1 if x < 1 else -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def naive_rows(pixels, size):
    """uint8 (n, ...) -> (size, ...): bicubic, antialiased, along the first axis."""
    scale = len(pixels) / size
    wide, out = max(scale, 1.0), []
    for i in range(size):
        centre = (i + 0.5) * scale
        weights = np.array([cubic((j + 0.5 - centre) / wide) for j in range(len(pixels))])
        out.append(np.tensordot(weights / weights.sum(), pixels.astype(float), 1))
    return np.clip(np.array(out), 0, 255)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 24), st.integers(1, 24), st.integers(0, 2**32 - 1))
def test_resizing_is_bicubic_width_first(width, height, to_width, to_height, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    left, top, right, bottom = crop_box((width, height), (to_width, to_height))
    cropped = pixels[top:bottom, left:right]
    across = np.rint(naive_rows(cropped.transpose(1, 0, 2), to_width)).transpose(1, 0, 2)
    found = to_pixels(Image.fromarray(pixels), 3, (to_width, to_height), (0, 0, 0))
    assert found.shape == (to_height, to_width, 3)
    assert np.abs(found - naive_rows(across, to_height)).max() <= 2.01  # a step for each rounding, and their sum


def test_a_picture_of_the_right_size_stays_as_it_is():
    pixels = np.random.default_rng(0).integers(0, 256, (9, 5, 3), dtype=np.uint8)
    assert np.array_equal(to_pixels(Image.fromarray(pixels), 3, (5, 9), (0, 0, 0)), pixels)


def test_colours():
    for text in ("white", "#ffffff", "255,255,255", "rgb(255, 255, 255)"):
        assert parse_colour(text) == (255, 255, 255), text
    for text in ("snow-white", "1,2", "1,2,256", "", "a,b,c"):
        with pytest.raises(UsageError, match="is no colour"):
            parse_colour(text)
