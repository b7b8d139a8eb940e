"""A folder of pictures by class, as a data set: `device_runtime.pictures.folders` has the rules."""

from pathlib import Path

import torch

from fedgate.device_runtime.errors import FedgateError, UsageError
from fedgate.device_runtime.pictures.folders import EMPTY, Tree, left_out_note, pictures_below, scan

from .decoding import Encoded, Reading, decode_images, unreadable_note
from .parquet import parquet_files
from .source import Source, Split, check_classes, unused_split


def folder_of(path: Path) -> Tree | list[Path]:
    """What a folder holds: pictures, as they are scanned, or else the parquet files. A folder of both is refused."""
    path = path.resolve()
    tables = parquet_files(path)
    if not tables:
        return scan(path)
    pictures, _ = pictures_below(path)
    if pictures:
        raise UsageError(
            f"'{path}' holds pictures ({pictures[0]}) and parquet files ({tables[0].relative_to(path)}): "
            "keep one kind, or give the folder of one"
        )
    return tables


def read_folder(tree: Tree, reading: Reading) -> Source:
    """The pictures of a scanned folder, those of each class in the order of their paths.

    Raises `UsageError` for a folder without two classes, or a test split with others; `FedgateError` for what cannot be
    decoded.
    """
    test = next((split for split in ("test", "validation") if tree.classes.get(split)), None)
    used = ["train"] if test is None else ["train", test]
    _check_classes(tree, used)
    rows = [(split, name, path) for split in used for name, paths in tree.classes[split].items() for path in paths]
    encoded = encoded_files(tree, [path for _, _, path in rows])
    pixels, read, notes = decode_images(encoded, reading)
    warnings = tree.notes() + unreadable_note(encoded, read)
    rows = [row for row, good in zip(rows, read, strict=True) if good]
    names = sorted({name for split, name, _ in rows if split == "train"})
    number = {name: i for i, name in enumerate(names)}
    if lost := [name for name in tree.classes["train"] if name not in number]:
        warnings += (left_out_note(EMPTY, lost),)
    kept = torch.tensor([name in number for _, name, _ in rows])  # a test split may hold what training lost
    rows = [row for row in rows if row[1] in number]
    pixels = pixels if len(rows) == len(kept) else pixels[kept]
    labels = torch.tensor([number[name] for _, name, _ in rows])
    n = sum(split == "train" for split, _, _ in rows)
    notes += unused_split(test, {split: sum(map(len, of.values())) for split, of in tree.classes.items()})
    held_out = None if test is None else Split(pixels[n:], labels[n:])
    return Source(names, Split(pixels[:n], labels[:n]), held_out, notes, warnings)


def _check_classes(tree: Tree, used: list[str]) -> None:
    names = tree.classes["train"]
    if not names:
        found = "; ".join(tree.notes())
        raise FedgateError(
            f"'{tree.root}' holds no pictures by class, which are looked for as CLASS/PICTURE, and no parquet files"
            + (f" ({found})" if found else "")
        )
    if len(names) == 1:
        (name,) = names
        raise UsageError(
            f"'{tree.root}' holds one class, '{name}', and a network tells two or more apart; if its classes lie "
            f"deeper, give {Path(tree.root) / name}"
        )
    for split in used[1:]:
        check_classes(split, tree.root, tree.classes[split], names)


def encoded_files(tree: Tree, paths: list[str]) -> list[Encoded]:
    """The files at paths relative to a scanned folder, each called by its whole path."""
    return [Encoded(place, place) for place in (str(tree.root / path) for path in paths)]


def loose_pictures(tree: Tree) -> list[str]:
    """Pictures to look at without their labels: those of the training split, in classes or not; relative paths."""
    return sorted([path for paths in tree.classes["train"].values() for path in paths] + tree.loose.get("train", []))
