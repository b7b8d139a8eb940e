"""The images of a folder without their labels, such as those that static masks are calibrated on."""

from pathlib import Path

import torch

from fedgate.device_runtime.errors import FedgateError, UsageError
from fedgate.device_runtime.pictures.fit import parse_colour
from fedgate.device_runtime.pictures.folders import NO_CLASS, Tree, left_out_note

from .decoding import read_images
from .folders import encoded_files, folder_of, loose_pictures


def load_unlabelled(folder: str, shape: tuple[int, int, int], background: str) -> tuple[torch.Tensor, tuple[str, ...]]:
    """The images of a folder, labelled or not: uint8 (N, C, H, W) for `shape` (C, H, W), and what was left out.

    folder: of pictures, or of parquet files; of the training split where there are splits. Raises UsageError for no
    folder, FedgateError for no images, and for those that cannot be read.
    """
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise UsageError(f"'{folder}' is no folder of images")
    if shape[0] not in (1, 3):
        raise FedgateError(f"the network takes {shape[0]} channels, and images have 1 or 3")
    found = folder_of(path)
    if isinstance(found, Tree):
        encoded = encoded_files(found, loose_pictures(found))
        warnings = tuple(left_out_note(reason, paths) for reason, paths in found.left_out.items() if reason != NO_CLASS)
    else:
        from .hub_tables import read_parquet
        from .tables import encoded_pictures, image_column

        tables, warnings = read_parquet(path.resolve(), found), ()
        split = "train" if "train" in tables.splits else next(iter(tables.splits))
        encoded = encoded_pictures(tables, split, image_column(folder, tables.features_by_split[split], None))
    if not encoded:
        raise FedgateError("; ".join((f"'{folder}' holds no images", *warnings)))
    return read_images(encoded, shape, parse_colour(background)), warnings
