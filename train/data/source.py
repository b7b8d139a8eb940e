"""What every reader of image data returns."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch

from fedgate.device_runtime.errors import UsageError
from fedgate.device_runtime.text import name_some

KNOWN = (
    "'digits', a folder (parquet files as on the Hugging Face hub, or images by class), a hub name 'owner/name', "
    "cifar-10-binary.tar.gz"
)


class Split(NamedTuple):
    """images uint8 (N, C, H, W), labels int64 (N,), and the natural id of each example (N,) if there is one."""

    images: torch.Tensor
    labels: torch.Tensor
    groups: np.ndarray | None = None


class Source(NamedTuple):
    """What a reader found: the names of the classes, the splits, and what the user should be told.

    notes: choices that were made in reading. warnings: what was left out; they are told even where notes are not.
    """

    labels: list[str]
    train: Split
    test: Split | None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def check_classes(split: str, place, names: Iterable[str], known: Iterable[str]) -> None:
    """Refuse a split whose classes are not among those of training. place: of the data, for the error."""
    known = set(known)
    if unknown := [name for name in names if name not in known]:
        raise UsageError(f"the {split} split of '{place}' has classes that train lacks: {name_some(unknown)}")


def unused_split(test: str | None, sizes: dict[str, int]) -> tuple[str, ...]:
    """What to tell of splits: which one serves as the test split, and which are not used; sizes: examples by split."""
    notes = () if test in (None, "test") else (f"no labelled test split: the split '{test}' is used as one",)
    unused = [f"'{split}' ({size:,} images)" for split, size in sizes.items() if split not in ("train", test) and size]
    return notes + ((f"not used: the split {' and '.join(unused)}",) if unused else ())
