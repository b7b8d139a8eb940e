"""The labelled images that a device holds: a folder of images by class, or recorded samples.

A folder is DIR/CLASS/.../IMAGE, by the rules of `pictures.folders`; each CLASS is a label of the bundle, and not every
label needs a folder. Recorded samples,
what an application kept of its camera's frames, are one tensor file: "images" uint8 (n, C, H, W) of the network's own
shape and "labels" int64 (n,), indices into the metadata's "labels": {"format": "fedgate-samples", "version": 1,
"labels": [the names of the classes]}.
"""

import hashlib
import os
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import FedgateError, UsageError, choose
from ..formats.checks import Fields
from ..formats.manifest import Manifest
from ..formats.tensors import read_tensors, tensors_hash, write_tensors
from ..images import load_pixels
from ..pictures.folders import scan
from ..storage import sha256_file
from ..text import printable

FORMAT, VERSION = "fedgate-samples", 1
SUFFIX = ".safetensors"
MOST_IMAGES = 1_000_000
MOST_BYTES = 2**30  # of recorded samples, which are held in memory


@dataclass(frozen=True)
class Examples:
    """Labelled images, read one at a time.

    names: of each image, for messages. labels: int64 (n,), indices into the bundle's labels. digest: SHA-256 of names,
    labels and contents. pixels: index -> uint8 (H, W, C); raises `FedgateError` for an image that cannot be read.
    left_out: lines that tell what of a folder is not used.
    """

    source: Path
    names: tuple[str, ...]
    labels: np.ndarray
    digest: str
    pixels: Callable[[int], np.ndarray]
    left_out: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)


def load_examples(path: Path, manifest: Manifest) -> Examples:
    """The examples of a folder or a file of recorded samples; images are opened only when they are asked for.

    Raises `UsageError` for a path that is neither, and for classes that the network does not have; `FedgateError` for
    a damaged file, or nothing to learn from.
    """
    path = Path(path)
    if path.is_dir():
        return _folder(path, manifest)
    if path.is_file() and path.suffix == SUFFIX:
        return _samples(path, manifest)
    raise UsageError(f"no data at {path}: give a folder of images by class, or a {SUFFIX} file of recorded samples")


def write_samples(path: Path, images: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> None:
    """Write recorded samples: images uint8 (n, C, H, W), labels (n,) indices into `names`."""
    tensors = {"images": np.asarray(images, np.uint8), "labels": np.asarray(labels, np.int64)}
    write_tensors(path, tensors, {"format": FORMAT, "version": VERSION, "labels": list(names)})


def _folder(path, manifest):
    tree = scan(path)
    classes, numbers = tree.classes["train"], {}
    known = {unicodedata.normalize("NFC", label): i for i, label in enumerate(manifest.labels)}
    for name in classes:
        choose(f"class of {path}", name, known)
        numbers[name] = known[name]
    files = [file for name in classes for file in classes[name]]
    left_out = tree.notes() + tuple(
        f"left out, as devices learn from train alone: the split '{split}' ({sum(map(len, others.values())):,} images)"
        for split, others in tree.classes.items()
        if split != "train"
    )
    if not files:
        raise FedgateError(
            f"{'; '.join((f'{path} holds no images by class', *left_out))}: looked for as {path}/CLASS/IMAGE"
        )
    if len(files) > MOST_IMAGES:
        raise FedgateError(f"{path} holds {len(files):,} images, and at most {MOST_IMAGES:,} are read")
    labels = [numbers[name] for name in classes for _ in classes[name]]
    digest = hashlib.sha256()
    for file in files:
        digest.update(os.fsencode(file) + b"\0" + bytes.fromhex(sha256_file(path / file)))
    names = tuple(map(printable, files))
    return Examples(
        path,
        names,
        np.array(labels, np.int64),
        digest.hexdigest(),
        lambda i: load_pixels(path / files[i], manifest),
        left_out,
    )


def _samples(path, manifest):
    if path.stat().st_size > MOST_BYTES:
        raise FedgateError(f"{path} is larger than {MOST_BYTES:,} bytes, and recorded samples are held in memory")
    tensors, meta = read_tensors(path)
    fields = Fields(meta, f"the metadata of {path}")
    if fields.get("format") != FORMAT:
        fields.refuse("format", f"'{FORMAT}'")
    fields.whole("version", VERSION, VERSION)
    names = fields.items("labels", 1, 100_000)
    for name in names:
        choose(f"class of {path}", name, manifest.labels)
    images, labels = tensors.get("images"), tensors.get("labels")
    _, *shape = manifest.shape
    if images is None or images.dtype != np.uint8 or images.ndim != 4 or list(images.shape[1:]) != shape:
        raise FedgateError(f"{path} must hold 'images', uint8 (n, {', '.join(map(str, shape))})")
    if labels is None or labels.dtype != np.int64 or labels.shape != images.shape[:1]:
        raise FedgateError(f"{path} must hold 'labels', int64, one for each image")
    if not len(labels):
        raise FedgateError(f"{path} holds no images")
    if labels.min() < 0 or labels.max() >= len(names):
        raise FedgateError(f"{path} has a label outside its {len(names)} classes")
    own = np.array([manifest.labels.index(name) for name in names], np.int64)[labels]
    digest = tensors_hash({"images": images, "labels": own})
    each = tuple(f"{path.name}[{i}]" for i in range(len(labels)))
    return Examples(path, each, own, digest, lambda i: images[i].transpose(1, 2, 0))
