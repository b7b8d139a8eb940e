"""Pictures as pixels: sizes, colours, depth and rotation, and the mean and deviation that they are normalised by."""

import numpy as np
import pytest
import torch
from picture_data import RNG, pixels, png
from PIL import Image

from fedgate.train.data.decoding import Encoded, Reading, decode_images
from fedgate.train.data.load import mean_std

pytestmark = pytest.mark.usefixtures("private_cache_and_no_network")


def decode(*arrays, size=None):
    """The pixels of pictures by `decode_images`, and its notes."""
    pictures = [Encoded(a if isinstance(a, bytes) else png(a), f"image {i}") for i, a in enumerate(arrays)]
    images, read, notes = decode_images(pictures, Reading(size))
    assert read.all()
    return images, notes


def test_images_of_one_size_stay_as_they_are():
    arrays = [pixels(30, 20, 3), pixels(30, 20, 3)]
    images, notes = decode(*arrays)
    assert notes == () and np.array_equal(images.permute(0, 2, 3, 1), arrays)


@pytest.mark.parametrize(("shapes", "size", "side"), [([(30, 20), (20, 30)], None, 224), ([(8, 8)], 12, 12)])
def test_other_images_become_centre_squares(shapes, size, side):
    arrays = []
    for height, width in shapes:  # black, but for the centre square
        array = np.zeros((height, width, 3), np.uint8)
        edge = min(height, width)
        top, left = (height - edge) // 2, (width - edge) // 2
        array[top : top + edge, left : left + edge] = 200
        arrays.append(array)
    images, notes = decode(*arrays, size=size)
    assert images.shape == (len(shapes), 3, side, side)
    inner = slice(side // 9, -(side // 9))  # interpolation blends the outermost pixels with what was cut off
    assert (images[:, :, inner, inner] == 200).all()
    assert f"{side}x{side}" in notes[0]


def test_large_images_of_one_size_are_reduced():
    images, notes = decode(pixels(300, 400, 3))
    assert images.shape == (1, 3, 224, 224) and "224x224" in notes[0]


def test_one_colour_image_makes_all_three_channels():
    gray, colour = pixels(8, 8), pixels(8, 8, 3)
    assert np.array_equal(decode(gray)[0][0, 0], gray)
    images, _ = decode(gray, colour)
    assert np.array_equal(images[0].permute(1, 2, 0), np.stack([gray] * 3, axis=2))
    assert np.array_equal(images[1].permute(1, 2, 0), colour)


def test_exif_rotation_is_applied():
    array = pixels(8, 12, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # shot with the camera turned: show it rotated clockwise
    images, _ = decode(png(array, exif=exif))
    assert np.array_equal(images[0].permute(1, 2, 0), np.rot90(array, -1))


def test_sixteen_bit_images_keep_their_upper_bits():
    array = RNG.integers(0, 2**16, (8, 8), dtype=np.uint16)
    assert np.array_equal(decode(array)[0][0, 0], array >> 8)


def test_mean_and_std_are_those_of_the_pixels():
    images = torch.from_numpy(pixels(50, 3, 9, 5))
    images[:, 2] = 77
    mean, std = mean_std(images)
    scaled = images.double() / 255
    assert mean == pytest.approx(scaled.mean((0, 2, 3)).tolist(), abs=1e-12)
    assert std[:2] == pytest.approx(scaled.std((0, 2, 3), correction=0)[:2].tolist(), abs=1e-12)
    assert std[2] == 1 / 255  # constant: normalising must stay finite
