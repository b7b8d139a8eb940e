"""The one pass of a client's examples through the frozen trunk."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..errors import FedgateError
from ..formats.bundle import Bundle
from ..formats.macs import mask_width
from ..images import normalise
from ..text import name_some
from .examples import Examples
from .features import DONE, UNREADABLE, Features
from .programs import TailPrograms, run_trunk

NAMED = 50  # unreadable images in one error


def open_features(folder: Path, bundle: Bundle, programs: TailPrograms, examples: Examples, level: int) -> Features:
    """The feature file of these examples: bound to the bundle, the trunk's program, the level and the data."""
    tail = bundle.manifest.tail
    key = {
        "bundle": bundle.manifest.digest,
        "trunk": programs.trunk.program.sha256,
        "level": level,
        "data": examples.digest,
    }
    trunk_layers, _ = tail.split(bundle.manifest.layers)
    return Features(folder, key, len(examples), tail.features, mask_width(trunk_layers))


def run_examples(
    bundle: Bundle,
    programs: TailPrograms,
    examples: Examples,
    features: Features,
    level: int,
    skip_unreadable: bool = False,
    progress: Callable[[], None] = lambda: None,
) -> list[str]:
    """Run the trunk on every example that `features` does not have yet; the names of those that cannot be read.

    progress: called after each example. Unreadable ones are an error after the others were done, unless they are to be
    skipped; nothing at all to learn from always is one.
    """
    bad, reason = [], None
    try:
        for index in range(len(examples)):
            if features.done[index] != DONE:
                try:
                    pixels = examples.pixels(index)
                except FedgateError as error:
                    bad.append(examples.names[index])
                    reason = reason or error
                    features.mark(index, UNREADABLE)
                else:
                    features.put(index, *_rows(programs, pixels, bundle, level))
            progress()
    finally:
        features.sync()
    if len(bad) == len(examples):
        raise FedgateError(f"none of the {len(bad)} images of {examples.source} can be read: {reason}")
    if bad and not skip_unreadable:
        raise FedgateError(
            f"{len(bad)} of the {len(examples)} images of {examples.source} cannot be read: "
            f"{name_some(bad, NAMED)}; remove them, or leave them out with --skip-unreadable"
        )
    return bad


def _rows(programs, pixels, bundle, level) -> tuple[np.ndarray, np.ndarray]:
    features, opened, _ = run_trunk(programs.trunk, normalise(pixels, bundle.manifest), level)
    return features[0], opened[0]
