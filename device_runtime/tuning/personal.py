"""personal.safetensors: a bundle's tail after local training. With its bundle it is a model; alone it is nothing.

Tensors: the tail's parameters, train's names, float32; its running statistics stay the bundle's. Metadata: {"format":
"fedgate-personal", "version": 1, "bundle": the manifest's digest, "run": text, "trainable": "head" or "last-stage",
"level": int, "epochs": int, "steps": int, "examples": int, "before": accuracy or null, "after": accuracy or null}; the
accuracies are those of the held-out examples.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import FedgateError
from ..formats.bundle import Bundle
from ..formats.checks import Fields
from ..formats.tensors import read_tensors, write_tensors
from ..formats.update import MOST

FORMAT, VERSION = "fedgate-personal", 1


@dataclass(frozen=True)
class Personal:
    """tensors: float32 by name; treat them as read-only. level: the one that was trained. Accuracies of 0 to 1."""

    tensors: dict[str, np.ndarray]
    level: int
    epochs: int
    steps: int
    examples: int
    before: float | None
    after: float | None


def write_personal(path: Path, bundle: Bundle, personal: Personal) -> None:
    """Write it, atomically."""
    fields = {name: getattr(personal, name) for name in ("level", "epochs", "steps", "examples", "before", "after")}
    meta = fields | {
        "format": FORMAT,
        "version": VERSION,
        "bundle": bundle.manifest.digest,
        "run": bundle.tail().spec.run,
        "trainable": bundle.manifest.tail.trainable,
    }
    write_tensors(path, personal.tensors, meta)


def load_personal(path: Path, bundle: Bundle) -> Personal:
    """Read and check a personal model. Raises `FedgateError` for a file that is damaged or of another bundle."""
    tensors, meta = read_tensors(path)
    fields = Fields(meta, f"the metadata of {path}")
    if fields.get("format") != FORMAT:
        fields.refuse("format", f"'{FORMAT}'")
    fields.whole("version", VERSION, VERSION)
    if fields.sha256("bundle") != bundle.manifest.digest:
        raise FedgateError(f"{path} was made with another bundle than {bundle.path}")
    expected = bundle.tail().spec.parameters
    for name in sorted(expected.keys() ^ tensors.keys()):
        raise FedgateError(f"{path} {'has an unknown' if name in tensors else 'lacks'} tensor {name!r}")
    for name, tensor in tensors.items():
        if tensor.dtype != np.float32 or tensor.shape != expected[name] or not np.isfinite(tensor).all():
            raise FedgateError(f"{path}: {name!r} must be finite float32 {list(expected[name])}")
    accuracies = {key: None if fields.get(key) is None else fields.number(key, 0.0, 1.0) for key in ("before", "after")}
    return Personal(
        tensors=tensors,
        level=fields.whole("level", 0, len(bundle.manifest.densities) - 1),
        epochs=fields.whole("epochs", 0, MOST),
        steps=fields.whole("steps", 0, MOST),
        examples=fields.whole("examples", 1, MOST),
        **accuracies,
    )
