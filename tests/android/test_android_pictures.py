"""A picture becomes the same pixels in the app's Kotlin as in Pillow, bit for bit; bad ones are refused in a line."""

import random
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps
from ways import EVERY_WAY

from fedgate.device_runtime.formats.macs import Layer
from fedgate.device_runtime.formats.manifest import render_manifest
from fedgate.device_runtime.pictures.decode import open_picture
from fedgate.device_runtime.pictures.fit import to_pixels

WHITE = (255, 255, 255)
SHAPES = [  # picture (w, h), network (W, H)
    ((1, 1), (1, 1)), ((1, 1), (8, 8)), ((1, 1), (32, 17)), ((1, 9), (9, 9)), ((9, 1), (9, 9)), ((1, 300), (4, 4)),
    ((300, 1), (4, 4)), ((2, 2), (3, 3)), ((3, 5), (17, 9)), ((5, 3), (9, 17)), ((12, 12), (12, 12)),
    ((12, 30), (12, 12)), ((30, 12), (12, 12)), ((13, 12), (12, 12)), ((12, 13), (12, 12)), ((24, 24), (12, 12)),
    ((7, 1000), (10, 20)), ((1000, 7), (20, 10)), ((641, 480), (32, 32)), ((480, 641), (32, 32)),
    ((101, 67), (224, 224)), ((223, 225), (224, 224)), ((224, 500), (224, 224)), ((100, 60), (7, 31)),
    ((60, 100), (31, 7)), ((640, 480), (1, 1)), ((33, 35), (34, 34)), ((99, 3), (1, 50)), ((3, 99), (50, 1)),
    ((16, 9), (160, 90)), ((17, 9), (160, 90)), ((1920, 1080), (96, 64)),
]  # fmt: skip


def drawn(draw, mode, size):
    """A picture of noise, or of steps that a bicubic overshoots at, whose alpha has all degrees."""
    w, h = size
    bands = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}[mode]
    pixels = draw.integers(0, 256, (h, w, bands), dtype=np.uint8)
    if draw.integers(2):
        pixels = np.where(pixels > 127, np.uint8(255), np.uint8(0))
        if mode.endswith("A"):
            pixels[..., -1] = draw.integers(0, 256, (h, w))
    return Image.fromarray(pixels[..., 0] if bands == 1 else pixels)


def manifest(channels, size, **more):
    """The bytes of the manifest of a network for pictures of a size (W, H). more: of its input."""
    empty = {"sha256": "0" * 64, "bytes": 0}
    shape = {"shape": [1, channels, size[1], size[0]], "layout": "NCHW"}
    fields = {
        "model": "tiny",
        "gate": "none",
        "width": 1.0,
        "dataset": "it",
        "labels": ["a", "b"],
        "input": shape | {"mean": [0.5] * channels, "std": [0.5] * channels} | more,
        "densities": [1.0],
        "default_level": 0,
        "layers": [Layer("head", "linear", 64, 2, (1, 1), (1, 1)).to_json()],
        "training": {},
        "masks": "global",
        "tail": None,
        "programs": [],
        "files": {"reference.safetensors": empty, "salience.safetensors": empty},
    }
    return render_manifest(fields)


def request(folder, image, written, orientation=1):
    """A request of the main Formats for a picture, at a place of its own in the folder."""
    place = folder / str(len(list(folder.iterdir())))
    place.mkdir()
    (place / "manifest.json").write_bytes(written)
    red, green, blue, alpha = (np.asarray(band).astype("<u4") for band in image.convert("RGBA").split())
    (place / "argb").write_bytes((alpha << 24 | red << 16 | green << 8 | blue).astype("<u4").tobytes())
    return ["picture", str(place / "manifest.json"), str(place / "argb"), *image.size, orientation]


@EVERY_WAY
def test_pixels_are_pillows(ask, tmp_path):
    draw, odd = np.random.default_rng(2), random.Random(2)
    cases = [(*shape, mode) for shape in SHAPES for mode in ("RGB", "RGBA")]
    cases += [(*shape, mode) for shape in SHAPES[::3] for mode in ("L", "LA")]
    sizes = [[odd.choice([odd.randint(1, 9), odd.randint(1, 400)]) for _ in range(4)] for _ in range(60)]
    cases += [((w, h), (a, b), odd.choice(["L", "LA", "RGB", "RGBA"])) for w, h, a, b in sizes]
    requests, expected = [], []
    for index, (size, wanted, mode) in enumerate(cases):
        image, channels = drawn(draw, mode, size), (1, 3)[index % 3 > 0]
        background = WHITE if index % 2 else tuple(draw.integers(0, 256, 3).tolist())
        more = {} if background == WHITE else {"fit": "crop", "background": list(background)}
        requests.append(request(tmp_path, image, manifest(channels, wanted, **more)))
        expected.append(to_pixels(image, channels, wanted, background).tobytes().hex())
    for case, answer, pixels in zip(cases, ask(requests), expected, strict=True):
        assert answer == pixels, case


def test_every_colour_and_alpha_is_laid_on_every_background_as_pillow_does(ask, tmp_path):
    colours = np.arange(256, dtype=np.uint8)
    gray = Image.fromarray(np.stack(np.broadcast_arrays(colours[:, None], colours[None]), -1))  # every gray and alpha
    colour = Image.fromarray(np.random.default_rng(5).integers(0, 256, (256, 256, 3), dtype=np.uint8))
    grounds = [(0, 0, 0), (255, 0, 128), (1, 254, 77)]
    cases = [(gray, 3, ground) for ground in grounds] + [(colour, 1, WHITE)]
    answers = ask(
        request(tmp_path, image, manifest(channels, (256, 256), background=list(ground)))
        for image, channels, ground in cases
    )
    for (image, channels, ground), answer in zip(cases, answers, strict=True):
        if image.mode == "LA":
            laid = Image.new("RGB", image.size, ground)
            laid.paste(image.convert("RGB"), mask=image.getchannel("A"))
        else:
            laid = image.convert("L")
        assert bytes.fromhex(answer) == np.asarray(laid).tobytes(), (channels, ground)


def test_pictures_are_turned_upright_as_exif_says(ask, tmp_path):
    image = drawn(np.random.default_rng(3), "RGB", (31, 20))
    requests = [request(tmp_path, image, manifest(3, (13, 9)), orientation) for orientation in range(10)]
    for orientation, answer in enumerate(ask(requests)):
        image.getexif()[0x0112] = orientation  # Orientation
        expected = to_pixels(ImageOps.exif_transpose(image), 3, (13, 9), WHITE)
        assert answer == expected.tobytes().hex(), orientation


def test_what_a_manifest_says_of_pictures_is_checked(ask, tmp_path):
    image = Image.new("RGB", (3, 3))
    cases = [
        ({"fit": "squash"}, "manifest.json: 'input': 'fit' must be one of crop"),
        ({"fit": None}, "'fit' must be one of crop"),
        ({"background": [255, 255]}, "'background' must be a list of 3 items"),
        ({"background": [0, 0, 256]}, "'background' must be whole numbers from 0 to 255"),
        ({"background": [0, 0, 0.5]}, "'background' must be whole numbers from 0 to 255"),
        ({"background": "white"}, "'background' must be a list of 3 items"),
    ]
    answers = ask(request(tmp_path, image, manifest(3, (2, 2), **more)) for more, _ in cases)
    for (more, text), answer in zip(cases, answers, strict=True):
        assert text in answer["refused"], more
    (answer,) = ask([request(tmp_path, image, manifest(4, (2, 2)))])
    assert answer["refused"] == "this network takes 4 channels, and a picture has 1 or 3"


def png(width, height, data=b""):
    """A PNG of 8-bit gray whose header says this size."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_sizes_that_no_picture_has_are_refused_before_decoding(ask, tmp_path):
    large = "pixels, and at most 89,478,485 are read"
    sizes = [(0, 5, "not a picture"), (-1, -1, "not a picture"), (9459, 9460, large), (2**31 - 1, 2**31 - 1, large)]
    for (width, height, text), answer in zip(sizes, ask(["size", w, h] for w, h, _ in sizes), strict=True):
        assert answer["refused"].startswith("cannot read the picture it: ") and text in answer["refused"], (
            width,
            height,
        )
    assert "refused" not in str(ask([["size", 9459, 9459], ["size", 89_478_485, 1]]))
    good = zlib.compress(bytes(9 * 8))
    files = {
        "huge.png": (png(60_000, 60_000, good), f"60000 x 60000 {large}"),
        "none.png": (b"", "not a picture"),
        "text.png": (b"no picture at all", "not a picture"),
        "cut.png": (png(8, 8, good)[:50], "it is damaged"),
        "good.png": (png(8, 8, good), None),
    }
    for name, (content, _) in files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "manifest.json").write_bytes(manifest(1, (8, 8)))
    answers = ask(["decoded", str(tmp_path / "manifest.json"), str(tmp_path / name)] for name in files)
    for (name, (_, text)), answer in zip(files.items(), answers, strict=True):
        assert answer == "00" * 64 if text is None else text in answer["refused"], (name, answer)


def test_decoded_files_keep_their_colours_and_alpha(ask, tmp_path):
    rgba, requests, expected = drawn(np.random.default_rng(7), "RGBA", (20, 30)), [], []
    (tmp_path / "manifest.json").write_bytes(manifest(3, (8, 8)))
    for mode in ("L", "LA", "RGB", "RGBA", "P"):
        image = rgba.convert("RGB").quantize(7) if mode == "P" else rgba.convert(mode)
        image.save(tmp_path / f"{mode}.png")
        requests.append(["decoded", str(tmp_path / "manifest.json"), str(tmp_path / f"{mode}.png")])
        image = open_picture(tmp_path / f"{mode}.png", "it")
        expected.append(to_pixels(image, 3, (8, 8), WHITE).tobytes().hex())
    assert ask(requests) == expected
