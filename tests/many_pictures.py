"""Pictures of many formats, modes, orientations and shapes, as people's folders hold them."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description tiff:Orientation="{}"/></rdf:RDF></x:xmpmeta>'


def make_pictures(seed: int = 0) -> dict[str, bytes]:
    """Name -> the bytes of a file; every name once, most of them 20 x 30 pixels."""
    rng = np.random.default_rng(seed)

    def pixels(width=20, height=30, channels=3, dtype=np.uint8):
        shape = (height, width, channels) if channels > 1 else (height, width)
        return rng.integers(0, np.iinfo(dtype).max + 1, shape, dtype)

    def saved(image, kind, **options):
        file = io.BytesIO()
        image.save(file, kind, **options)
        return file.getvalue()

    colour, gray = Image.fromarray(pixels()), Image.fromarray(pixels(channels=1))
    clear = Image.fromarray(pixels(channels=4))
    clear_gray = Image.merge("LA", [gray, Image.fromarray(pixels(channels=1))])
    deep = pixels(channels=1, dtype=np.uint16)
    found = {
        "colour.png": saved(colour, "PNG"),
        "colour.jpg": saved(colour, "JPEG", quality=90),
        "progressive.jpeg": saved(colour, "JPEG", progressive=True),
        "colour.webp": saved(colour, "WEBP", lossless=True),
        "colour.bmp": saved(colour, "BMP"),
        "colour.tif": saved(colour, "TIFF"),
        "packed.tiff": saved(colour, "TIFF", compression="tiff_lzw"),
        "colour.ppm": saved(colour, "PPM"),
        "colour.jp2": saved(colour, "JPEG2000"),
        "colour.avif": saved(colour, "AVIF"),
        "palette.gif": saved(colour.quantize(64), "GIF"),
        "moving.gif": saved(colour.quantize(9), "GIF", save_all=True, append_images=[gray.convert("P")]),
        "palette.png": saved(colour.quantize(200), "PNG"),
        "print.jpg": saved(colour.convert("CMYK"), "JPEG"),
        "print.tif": saved(colour.convert("CMYK"), "TIFF"),
        "two.mpo": saved(colour, "MPO", save_all=True, append_images=[colour]),
        "gray.png": saved(gray, "PNG"),
        "gray.jpg": saved(gray, "JPEG"),
        "gray.pgm": saved(gray, "PPM"),
        "deep.png": saved(Image.fromarray(deep), "PNG"),
        "deep.tif": saved(Image.fromarray(deep), "TIFF"),
        "deep.pgm": b"P5 20 30 65535\n" + deep.astype(">u2").tobytes(),
        "bits.png": saved(gray.convert("1"), "PNG"),
        "bits.pbm": saved(gray.convert("1"), "PPM"),
        "clear.png": saved(clear, "PNG"),
        "clear.webp": saved(clear, "WEBP", lossless=True, exact=True),
        "clear.tif": saved(clear, "TIFF"),
        "clear-gray.png": saved(clear_gray, "PNG"),
        "clear-palette.png": saved(colour.quantize(16), "PNG", transparency=bytes(range(0, 256, 16))),
        "clear-colour.png": saved(colour, "PNG", transparency=colour.getpixel((3, 4))),
        "clear-shade.png": saved(gray, "PNG", transparency=gray.getpixel((3, 4))),
        "clear.gif": saved(colour.quantize(16), "GIF", transparency=3),
        "no-suffix": saved(colour, "PNG"),
        "LOUD.JPG": saved(colour, "JPEG"),
        "wrong-suffix.png": saved(colour, "JPEG"),
        "said-to-be.heic": saved(colour, "JPEG"),
        "long.png": saved(Image.fromarray(pixels(301, 7)), "PNG"),
        "tall.png": saved(Image.fromarray(pixels(7, 301)), "PNG"),
        "dot.png": saved(Image.fromarray(pixels(1, 1)), "PNG"),
        "line.png": saved(Image.fromarray(pixels(1, 40)), "PNG"),
        "large.jpg": saved(Image.fromarray(pixels(640, 480)), "JPEG"),
        "right-size.png": saved(Image.fromarray(pixels(24, 24)), "PNG"),
    }
    for orientation in range(2, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        found[f"turned-{orientation}.jpg"] = saved(colour, "JPEG", exif=exif)
    exif[0x0112] = 6
    found["turned.png"] = saved(colour, "PNG", exif=exif)
    found["turned.webp"] = saved(colour, "WEBP", exif=exif, lossless=True)
    found["turned.tif"] = saved(colour, "TIFF", exif=exif)
    found["turned-by-xmp.jpg"] = saved(colour, "JPEG", xmp=XMP.format(8).encode())
    notes = PngImagePlugin.PngInfo()
    notes.add_itxt("XML:com.adobe.xmp", XMP.format(3))
    found["turned-by-xmp.png"] = saved(colour, "PNG", pnginfo=notes)
    found["junk-exif.jpg"] = saved(colour, "JPEG", exif=b"Exif\0\0junk that is no TIFF")
    return found


def write_pictures(folder: Path, seed: int = 0) -> list[Path]:
    """Write the pictures into a folder; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, content in make_pictures(seed).items():
        paths.append(folder / name)
        paths[-1].write_bytes(content)
    return paths
