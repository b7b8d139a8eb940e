"""What every reader of image data returns."""

from typing import NamedTuple

import numpy as np
import torch

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
    """What a reader found: the names of the classes, the splits, and what the user should be told."""

    labels: list[str]
    train: Split
    test: Split | None
    notes: tuple[str, ...] = ()
