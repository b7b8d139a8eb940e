"""Classes of pictures, and which channels of the network ran for them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .engines import Prediction
from .engines.guard import check
from .engines.program_macs import asked_macs
from .engines.select import best, choose_level, matching, runnable
from .errors import FedgateError
from .formats import macs
from .formats.bundle import Bundle
from .formats.manifest import Manifest
from .images import load_image
from .pictures.folders import pictures_below
from .selection import ANY, Selection
from .tuning.model import model_role, open_model, tuned_level, tuned_trunks
from .tuning.personal import load_personal


def predict(
    bundle: Bundle,
    images: Sequence[Path],
    chosen: Selection = ANY,
    personal: Path | None = None,
) -> dict:
    """Classify pictures with one program, by default the one that shows most and loads fastest.

    images: files, and folders of which all pictures are taken. personal: a file by `fedgate finetune`, whose parameters
    the tail then has.
    Returns a JSON object: the program, and by picture its top class, all probabilities, the MACs that its masks ask
    for and those that the program executes, and for programs with masks the open channels of every gated layer;
    "unreadable", the pictures that cannot be read, each with the reason; "left_out", lines on what of folders is no
    picture. Raises `FedgateError` when nothing can run or no picture can be read, `UsageError` for unknown names and
    levels.
    """
    manifest = bundle.manifest
    tuned = None if personal is None else load_personal(personal, bundle)
    if tuned is None:
        level = choose_level(manifest, chosen.level, chosen.density)
        program = best(runnable(matching(bundle, chosen, level)))
    else:
        level = tuned_level(tuned, chosen.level, chosen.density, bundle)
        program = tuned_trunks(bundle, chosen.runtime, chosen.role)[0]
    paths, left_out = find_pictures(images)
    check(bundle, [program])
    loaded = open_model(bundle, program, tuned)
    rows, unreadable = [], []
    for path in paths:
        try:
            image = load_image(path, manifest)
        except FedgateError as error:
            unreadable.append({"image": str(path), "reason": str(error)})
            continue
        rows.append({"image": str(path), **describe(manifest, loaded.run(image, level))})
    if not rows:
        raise FedgateError(f"{unreadable[0]['reason']}{more_than_one(unreadable)}")
    return {
        "model": manifest.model,
        "runtime": program.runtime,
        "role": model_role(program),
        "program": program.file,
        "density": None if program.role == "dense" else manifest.densities[level],
        "images": rows,
        "unreadable": unreadable,
        "left_out": left_out,
    }


def find_pictures(images: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Files as they are, and the pictures of folders at any depth; lines that tell what of the folders is left out."""
    paths, left_out = [], []
    for path in map(Path, images):
        if not path.is_dir():
            paths.append(path)
            continue
        found, tree = pictures_below(path)
        paths += [path / name for name in found]
        left_out += tree.notes()
        if not found:
            raise FedgateError("; ".join((f"{path} holds no pictures", *tree.notes())))
    return paths, left_out


def more_than_one(unreadable: Sequence) -> str:
    """What follows the first of several reasons."""
    return f" (and {len(unreadable) - 1:,} more)" if len(unreadable) > 1 else ""


def describe(manifest: Manifest, found: Prediction) -> dict:
    """One prediction as a JSON object."""
    probabilities, open = softmax(found.logits[0]), found.open
    top = int(probabilities.argmax())
    dense = macs.total(macs.dense(manifest.layers))
    asked = asked_macs(manifest, open, found.macs)
    layers = []
    if open is not None:
        for layer in macs.gated(manifest.layers):
            mask = open[0, macs.mask_slices(manifest.layers)[layer.name]]
            layers.append({"layer": layer.name, "channels": layer.out_channels, "open": np.flatnonzero(mask).tolist()})
    return {
        "class": manifest.labels[top],
        "probability": float(probabilities[top]),
        "probabilities": dict(zip(manifest.labels, map(float, probabilities), strict=True)),
        "asked_macs": round(asked),
        "executed_macs": round(found.macs),
        "asked_share_of_dense": asked / dense if dense else 1.0,
        "layers": layers,
    }


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities float64 (classes,) of logits (classes,)."""
    powers = np.exp(logits.astype(np.float64) - logits.max())
    return powers / powers.sum()
