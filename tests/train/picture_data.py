"""Random pictures, and folders and parquet files of them."""

import io

import datasets
import numpy as np
from PIL import Image

RNG = np.random.default_rng(0)


def pixels(*shape):
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def png(array, **options):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG", **options)
    return file.getvalue()


def write_folder(root, classes, images, side=8, channels=(3,)):
    """Random PNG images root/CLASS/I.png; returns {class: array (images, side, side, 3)}."""
    written = {}
    for name in classes:
        (root / name).mkdir(parents=True)
        written[name] = pixels(images, side, side, *channels)
        for i, image in enumerate(written[name]):
            (root / name / f"{i:03}.png").write_bytes(png(image))
    return written


def write_parquet(root, n=20, **columns):
    root.mkdir(exist_ok=True)
    images = pixels(n, 6, 7, 3)
    rows = {"image": [{"bytes": png(image), "path": None} for image in images], **columns}
    features = datasets.Features({"image": datasets.Image()})
    for name, values in columns.items():
        kind = "string" if isinstance(values[0], str) else "int64"
        features[name] = datasets.ClassLabel(names=["no", "yes"]) if name == "label" else datasets.Value(kind)
    datasets.Dataset.from_dict(rows, features=features).to_parquet(root / "train-00000-of-00001.parquet")
    return images
