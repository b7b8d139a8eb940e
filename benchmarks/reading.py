"""How fast a folder of camera pictures becomes pixels in memory, beside Pillow alone with one thread.

The pictures are JPEGs of a camera's size and quality, each noise over a smooth scene of its own. In every round
`fedgate train`'s reader and a loop of Pillow's open, exif_transpose, convert and ImageOps.fit take turns; ratio is the
median over the rounds of Pillow's time / the reader's. Where a picture's time goes is measured apart, in one thread.

    python benchmarks/reading.py --json reading.json
"""

import os
import statistics
import tempfile
import time
from pathlib import Path

import click
import numpy as np
from PIL import Image, ImageOps
from result_file import json_option, write_result

from fedgate.device_runtime.pictures.decode import open_picture
from fedgate.device_runtime.pictures.fit import to_pixels
from fedgate.train.data.load import load_data

WHITE = (255, 255, 255)


def write_pictures(root: Path, count: int, width: int, height: int) -> list[Path]:
    """Pictures of two classes."""
    rng = np.random.default_rng(0)
    x, y = np.linspace(0, 9, width, dtype=np.float32), np.linspace(0, 7, height, dtype=np.float32)[:, None]
    paths = []
    for i in range(count):
        waves = [np.sin(x * rng.uniform(0.5, 3) + y * rng.uniform(0.5, 3)) for _ in range(3)]
        noise = rng.integers(-12, 13, (height, width, 1), dtype=np.int16)
        scene = np.clip(np.stack(waves, -1) * 90 + 128 + noise, 0, 255).astype(np.uint8)
        paths.append(root / ("ant", "bee")[i % 2] / f"{i:04}.jpg")
        paths[-1].parent.mkdir(exist_ok=True)
        Image.fromarray(scene).save(paths[-1], quality=90)
    return sorted(paths)


def pillow_alone(paths: list[Path], side: int) -> np.ndarray:
    """uint8 (N, side, side, 3)."""
    pixels = np.empty((len(paths), side, side, 3), np.uint8)
    for i, path in enumerate(paths):
        with Image.open(path) as image:
            pixels[i] = ImageOps.fit(
                ImageOps.exif_transpose(image).convert("RGB"), (side, side), Image.Resampling.BICUBIC
            )
    return pixels


def seconds(function, *arguments, **named) -> float:
    started = time.perf_counter()
    function(*arguments, **named)
    return time.perf_counter() - started


def stages(paths: list[Path], side: int) -> dict[str, float]:
    """Milliseconds a picture, in one thread: reading the file, decoding, fitting."""
    found = {"file_ms": 0.0, "decode_ms": 0.0, "fit_ms": 0.0}
    for path in paths:
        found["file_ms"] += seconds(path.read_bytes)
        content = path.read_bytes()
        found["decode_ms"] += seconds(open_picture, content, path.name)
        found["fit_ms"] += seconds(to_pixels, open_picture(content, path.name), 3, (side, side), WHITE)
    return {name: 1e3 * value / len(paths) for name, value in found.items()}


@click.command()
@click.option("--pictures", type=click.IntRange(10), default=40, show_default=True)
@click.option("--width", type=int, default=4000, show_default=True, help="Of a picture; its height is three quarters.")
@click.option("--size", type=int, default=224, show_default=True, help="What they become.")
@click.option("--rounds", type=int, default=5, show_default=True)
@click.option("--quick", is_flag=True, help="Ten pictures of 1000 x 750, three rounds.")
@json_option
def main(pictures, width, size, rounds, quick, json_path):
    """Images a second of fedgate's reader and of Pillow alone."""
    if quick:
        pictures, width, rounds = 10, 1000, 3
    with tempfile.TemporaryDirectory() as folder:
        paths = write_pictures(Path(folder), pictures, width, width * 3 // 4)
        times = [(seconds(load_data, folder, size=size), seconds(pillow_alone, paths, size)) for _ in range(rounds)]
        ours, alone = (statistics.median(column) for column in zip(*times, strict=True))
        row = {
            "pictures": pictures,
            "width": width,
            "height": width * 3 // 4,
            "size": size,
            "threads": len(os.sched_getaffinity(0)),
            "images_per_second": pictures / ours,
            "pillow_images_per_second": pictures / alone,
            "ratio": statistics.median(other / mine for mine, other in times),
            **stages(paths, size),
        }
    for name, value in row.items():
        click.echo(f"{name:26}{value:10.4g}")
    write_result(json_path, [row])


if __name__ == "__main__":
    main()
