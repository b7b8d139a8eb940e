"""The two record files of a bundle: reference inputs with what every program must return, and salience records.

reference.safetensors: "image" float32 (n, C, H, W), already normalised; for a gated network by level i
"masked/i/logits" float32 (n, classes), "masked/i/open" uint8 (n, sum of C_out) and "masked/i/gate" float32
(n, sum of C_out), the gates' values after ReLU, from an eager run in float64; "static/i/logits" and "dense/logits"
where such programs exist. In bundles that train: "labelled/image" uint8 (m, C, H, W) and "labelled/label" int64 (m,),
test images by which a device may see what its training does to classes that it has no images of. Metadata: {"format":
"fedgate-reference", "version": 1}.

salience.safetensors, by scope ("global", "client-0", ..., "calibrated"): "SCOPE/opened/LAYER" int64 (levels, C_out),
"SCOPE/strength/LAYER" float64 (levels, C_out), "SCOPE/samples" int64 (levels,). Metadata: {"format":
"fedgate-salience", "version": 1}.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import FedgateError
from .macs import gated, mask_width
from .manifest import Manifest
from .salience import SalienceRecord
from .tensors import unpack

REFERENCE_META = {"format": "fedgate-reference", "version": 1}
SALIENCE_META = {"format": "fedgate-salience", "version": 1}
LABELLED = ("labelled/image", "labelled/label")


@dataclass(frozen=True)
class Reference:
    """Inputs float32 (n, C, H, W), and outputs by the names above; `gate` values are never negative.

    labelled, labels: uint8 (m, C, H, W) and int64 (m,), or None in bundles without them.
    """

    image: np.ndarray
    outputs: dict[str, np.ndarray]
    labelled: np.ndarray | None = None
    labels: np.ndarray | None = None

    def logits(self, role: str, level: int | None) -> np.ndarray:
        """The logits (n, classes) that a program of this role must return at this level."""
        if role == "dense":
            return self._get("dense/logits")
        return self._get(f"{'static' if role == 'static' else 'masked'}/{level}/logits")

    def open(self, level: int) -> np.ndarray:
        """The masks, uint8 (n, sum of C_out)."""
        return self._get(f"masked/{level}/open")

    def gate(self, level: int) -> np.ndarray:
        """The gates' values, float32 (n, sum of C_out)."""
        return self._get(f"masked/{level}/gate")

    def _get(self, name: str) -> np.ndarray:
        if name not in self.outputs:
            raise FedgateError(f"reference.safetensors has no '{name}'")
        return self.outputs[name]


def load_reference(data: bytes, path: Path, manifest: Manifest) -> Reference:
    """Check the bytes of a reference file, which `path` names in errors.

    Raises `FedgateError` for missing, misshapen or non-finite tensors.
    """
    tensors = _unpack(data, path, REFERENCE_META)
    image = tensors.pop("image", None)
    if image is None or image.ndim != 4 or len(image) == 0:
        raise FedgateError(f"{path} has no reference images")
    count, classes, width = len(image), len(manifest.labels), mask_width(manifest.layers)
    _check(path, "image", image, np.float32, (count, *manifest.shape[1:]))
    kinds = {"logits": (np.float32, classes), "open": (np.uint8, width), "gate": (np.float32, width)}
    needed = {"dense/logits"} if any(p.role == "dense" for p in manifest.programs) else set()
    needed |= {f"static/{p.level}/logits" for p in manifest.programs if p.role == "static"}
    if width:
        needed |= {f"masked/{level}/{kind}" for level in range(len(manifest.densities)) for kind in kinds}
    for name in sorted(needed | {name for name in tensors if name.split("/")[-1] in kinds}):
        if name not in tensors:
            raise FedgateError(f"{path} has no '{name}'")
        dtype, columns = kinds[name.split("/")[-1]]
        _check(path, name, tensors[name], dtype, (count, columns))
        if name.endswith("/open") and tensors[name].max(initial=0) > 1:
            raise FedgateError(f"{path}: '{name}' must hold only 0 and 1")
        if name.endswith("/gate") and tensors[name].min(initial=0) < 0:
            raise FedgateError(f"{path}: '{name}' must not be negative")
    return Reference(image, tensors, *_labelled(path, tensors, manifest))


def _labelled(path, tensors, manifest):
    images, labels = (tensors.pop(name, None) for name in LABELLED)
    if images is None and labels is None:
        return None, None
    for name, tensor in zip(LABELLED, (images, labels), strict=True):
        if tensor is None or tensor.ndim == 0:
            raise FedgateError(f"{path} has no '{name}'")
    _check(path, LABELLED[0], images, np.uint8, (len(images), *manifest.shape[1:]))
    _check(path, LABELLED[1], labels, np.int64, (len(images),))
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(manifest.labels):
        raise FedgateError(f"{path}: '{LABELLED[1]}' must be below {len(manifest.labels)}, the number of classes")
    return images, labels


def load_salience(data: bytes, path: Path, manifest: Manifest) -> dict[str, SalienceRecord]:
    """The record of every scope in a salience file's bytes; `path` names it in errors. Raises `FedgateError`."""
    tensors = _unpack(data, path, SALIENCE_META)
    levels = len(manifest.densities)
    records = {}
    for scope in sorted(name.removesuffix("/samples") for name in tensors if name.endswith("/samples")):
        record = SalienceRecord({}, {}, tensors.pop(f"{scope}/samples"))
        _check(path, f"{scope}/samples", record.samples, np.int64, (levels,))
        for layer in gated(manifest.layers):
            for kind, dtype in (("opened", np.int64), ("strength", np.float64)):
                name = f"{scope}/{kind}/{layer.name}"
                if name not in tensors:
                    raise FedgateError(f"{path} has no '{name}'")
                _check(path, name, tensors[name], dtype, (levels, layer.out_channels))
                if tensors[name].min() < 0:
                    raise FedgateError(f"{path}: '{name}' must not be negative")
                getattr(record, kind)[layer.name] = tensors.pop(name)
            if (record.opened[layer.name] > record.samples[:, None]).any():
                raise FedgateError(f"{path}: '{scope}' opened {layer.name} more often than it had samples")
        records[scope] = record
    for program in manifest.programs:
        if program.role == "static" and not (
            manifest.masks in records and records[manifest.masks].samples[program.level]
        ):
            raise FedgateError(f"{path} has no record of '{manifest.masks}', whose masks {program.file} has")
    if tensors:
        raise FedgateError(f"{path}: {next(iter(tensors))!r} belongs to no layer or scope")
    return records


def _unpack(data: bytes, path: Path, expected: dict) -> dict[str, np.ndarray]:
    tensors, meta = unpack(data, str(path))
    if any(meta.get(key) != value for key, value in expected.items()):
        raise FedgateError(f"{path} is not a {expected['format']} of version {expected['version']}")
    return tensors


def _check(path, name, tensor, dtype, shape) -> None:
    if tensor.dtype != dtype or tensor.shape != shape:
        raise FedgateError(
            f"{path}: '{name}' is {tensor.dtype} {list(tensor.shape)}, not {np.dtype(dtype)} {list(shape)}"
        )
    if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
        raise FedgateError(f"{path}: '{name}' holds values that are not finite")
