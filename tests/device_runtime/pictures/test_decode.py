"""Decoding: what a file holds comes back upright, in one of four modes, and what is no picture is one line."""

import io
import os

import numpy as np
import pytest
from many_pictures import make_pictures
from PIL import Image

from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.pictures import decode
from fedgate.device_runtime.pictures.decode import is_gray, open_picture

PICTURES = make_pictures()
TURNS = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_270", 7: "TRANSVERSE"}
TURNS[8] = "ROTATE_90"  # what undoes the orientation of that number (EXIF 2.32, 4.6.5)


def opened(name):
    return open_picture(PICTURES[name], name)


def array(image):
    return np.asarray(image)


@pytest.mark.parametrize("name", sorted(PICTURES))
def test_every_picture_is_read(name):
    image = opened(name)
    assert image.mode in ("L", "LA", "RGB", "RGBA") and is_gray(image) == (image.mode in ("L", "LA"))


def test_lossless_formats_hold_the_same_pixels():
    want = array(opened("colour.png"))
    for name in ("colour.webp", "colour.bmp", "colour.tif", "packed.tiff", "colour.ppm", "colour.jp2", "no-suffix"):
        assert np.array_equal(array(opened(name)), want), name
    assert np.array_equal(array(opened("deep.png")), array(opened("deep.tif")))
    assert np.array_equal(array(opened("deep.png")), array(opened("deep.pgm")))
    assert np.array_equal(array(opened("clear.png")), array(opened("clear.tif")))
    assert np.array_equal(array(opened("clear.png")), array(opened("clear.webp")))


def test_sixteen_bits_are_cut_to_the_upper_eight():
    with Image.open(io.BytesIO(PICTURES["deep.tif"])) as image:
        assert np.array_equal(array(opened("deep.png")), array(image) >> 8)


@pytest.mark.parametrize("orientation", sorted(TURNS))
def test_exif_orientation_is_undone(orientation):
    with Image.open(io.BytesIO(PICTURES[f"turned-{orientation}.jpg"])) as image:
        want = image.transpose(getattr(Image.Transpose, TURNS[orientation]))
    assert np.array_equal(array(opened(f"turned-{orientation}.jpg")), array(want))


def test_orientation_in_other_places():
    stored = opened("colour.png")
    want = {"turned.png": 6, "turned.webp": 6, "turned.tif": 6, "turned-by-xmp.png": 3}
    for name, orientation in want.items():
        turned = stored.transpose(getattr(Image.Transpose, TURNS[orientation]))
        assert np.array_equal(array(opened(name)), array(turned)), name
    assert opened("turned-by-xmp.jpg").size == (30, 20)
    assert opened("junk-exif.jpg").size == (20, 30)


def test_transparency_of_every_kind_is_kept():
    for name in ("clear.png", "clear-palette.png", "clear-colour.png", "clear.gif", "clear.webp"):
        assert opened(name).mode == "RGBA", name
    for name in ("clear-gray.png", "clear-shade.png"):
        assert opened(name).mode == "LA", name
    assert opened("clear-colour.png").getpixel((3, 4))[3] == 0
    assert opened("clear-shade.png").getpixel((3, 4))[1] == 0


def encoded(image, kind):
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)
BAD = {
    "empty": (b"", "it is empty"),
    "text": (b"not a picture", "not a picture"),
    "postscript": (POSTSCRIPT, "not a picture"),
    "float": (encoded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), "mode F, whose range is not known"),
    "wide": (encoded(Image.fromarray(np.ones((4, 4), np.int32)), "TIFF"), "mode I, whose range is not known"),
    "heic": (HEIC, "HEIC needs a plugin: pip install pillow-heif"),
    "cut": (PICTURES["colour.png"][:300], "truncated"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_what_is_no_picture_is_one_line(name, tmp_path):
    content, reason = BAD[name]
    if name == "heic" and "HEIF" in decode.readable():
        pytest.skip("pillow-heif is installed here")
    (tmp_path / "a.png").write_bytes(content)
    for source in (content, tmp_path / "a.png"):
        with pytest.raises(FedgateError, match=r"^cannot read the picture a\.png: ") as caught:
            open_picture(source, "a.png")
        assert reason in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")  # to open it would wait for ever
    for name, reason in (("pipe.png", "not a file"), (".", "not a file"), ("none.png", "No such file")):
        with pytest.raises(FedgateError, match=reason):
            open_picture(tmp_path / name, name)


def test_too_many_pixels_are_refused_before_they_are_decoded():
    side = 9500  # 90 million pixels in a file of 90 kB
    with pytest.raises(FedgateError, match="9500 x 9500 pixels, and at most 89,478,485 are read"):
        open_picture(encoded(Image.new("1", (side, side)), "PNG"), "bomb.png")
    with pytest.raises(FedgateError, match="more than 89,478,485 pixels"):
        open_picture(encoded(Image.new("1", (2 * side, side)), "PNG"), "bomb.png")
