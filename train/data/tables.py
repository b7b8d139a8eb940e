"""Tables of encoded pictures and labels: parquet files, and what Hugging Face `datasets` loads by a hub name."""

import unicodedata
from typing import NamedTuple

import datasets
import numpy as np
import torch

from fedgate.device_runtime.errors import FedgateError, UsageError
from fedgate.device_runtime.text import printable

from .decoding import Encoded, Reading, decode_images, unreadable_note
from .hub_tables import Tables
from .source import Source, Split, check_classes, unused_split

TEST_SPLITS = ("test", "validation")


class Columns(NamedTuple):
    """The columns to take, each by name; None where the data tell."""

    image: str | None = None
    label: str | None = None
    group: str | None = None


def read_tables(tables: Tables, columns: Columns, reading: Reading) -> Source:
    """The examples of a data set's tables; classes are matched between splits by their names.

    Raises `UsageError` for columns that are unknown or several, and for classes that training lacks, `FedgateError` for
    examples without a picture or label, and pictures that cannot be decoded.
    """
    name, features = tables.name, tables.features
    if "train" not in tables.splits:
        raise FedgateError(f"'{name}' has no train split, only {', '.join(tables.splits)}")
    for column in columns:
        if column is not None and column not in features:
            raise UsageError(f"'{name}' has no column '{column}'; known: {', '.join(features)}")
    image = image_column(name, features, columns.image)
    label, notes = _label_column(name, features, columns, image)
    names_by_split = {split: _class_names(tables, split, label) for split in tables.splits}
    test = next(
        (split for split in TEST_SPLITS if any(n not in (None, -1) for n in names_by_split.get(split, ()))), None
    )
    used = ["train"] if test is None else ["train", test]
    classes = _classes(tables, names_by_split, used, label)
    number = {class_: i for i, class_ in enumerate(classes)}
    labels = torch.tensor([number[one] for split in used for one in names_by_split[split]])
    encoded = [one for split in used for one in encoded_pictures(tables, split, image)]
    groups = None if columns.group is None else np.array(tables.splits["train"][columns.group].to_pylist())
    n = len(names_by_split["train"])
    pixels, read, more = decode_images(encoded, reading)
    labels, kept = labels[torch.from_numpy(read)], int(read[:n].sum())
    groups = None if groups is None else groups[read[:n]]
    notes += more + unused_split(test, {split: table.num_rows for split, table in tables.splits.items()})
    held_out = None if test is None else Split(pixels[kept:], labels[kept:])
    train = Split(pixels[:kept], labels[:kept], groups)
    return Source(classes, train, held_out, notes, unreadable_note(encoded, read))


def image_column(name: str, features: datasets.Features, wanted: str | None) -> str:
    """The column of pictures: the one that is declared so, else the one that holds bytes, or {bytes, path}."""
    held = {column: _holds_pictures(feature) for column, feature in features.items()}
    if wanted is not None:
        if not held[wanted]:
            raise UsageError(f"column '{wanted}' of '{name}' holds {features[wanted]}, which are no pictures")
        return wanted
    declared = [column for column, feature in features.items() if isinstance(feature, datasets.Image)]
    found = declared or [column for column in features if held[column]]
    if len(found) > 1:
        raise UsageError(f"'{name}' has several columns of pictures: choose one with --image: {', '.join(found)}")
    if not found:
        raise FedgateError(f"'{name}' has no column of pictures (columns: {', '.join(features)})")
    return found[0]


def _holds_pictures(feature) -> bool:
    if isinstance(feature, dict):
        return _is_binary(feature.get("bytes")) and feature.keys() <= {"bytes", "path"}
    return isinstance(feature, datasets.Image) or _is_binary(feature)


def _is_binary(feature) -> bool:
    return isinstance(feature, datasets.Value) and feature.dtype in ("binary", "large_binary")


def _label_column(name: str, features: datasets.Features, columns: Columns, image: str) -> tuple[str, tuple[str, ...]]:
    """The column of labels, and a note where it was found by its type alone."""
    if columns.label is not None:
        return columns.label, ()
    classes = [column for column, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    if len(classes) > 1:
        raise UsageError(f"'{name}' has several labels: choose one with --label: {', '.join(classes)}")
    if classes:
        return classes[0], ()
    others = [column for column in features if column not in (image, columns.group) and _is_label(features[column])]
    if len(others) == 1:
        return others[0], (f"the labels are those of the column '{others[0]}', the only one that can hold classes",)
    raise UsageError(
        f"'{name}' has no column of class labels: choose one of the columns {', '.join(features)} with --label"
    )


def _is_label(feature) -> bool:
    dtype = getattr(feature, "dtype", None)
    return isinstance(feature, datasets.Value) and (
        dtype in ("bool", "string", "large_string") or dtype.startswith(("int", "uint"))
    )


def _class_names(tables: Tables, split: str, label: str) -> list:
    """The class of each example: its name where the column declares names, else its value; None where it has none."""
    features = tables.features_by_split[split]
    if label not in features:
        return [None] * tables.splits[split].num_rows
    feature, values = features[label], tables.splits[split][label].to_pylist()
    if isinstance(feature, datasets.ClassLabel):
        count = len(feature.names)
        if wrong := next((v for v in values if v is not None and not -1 <= v < count), None):
            raise FedgateError(f"'{tables.name}': column '{label}' holds {wrong}, and declares {count} classes")
        return [None if value in (None, -1) else feature.names[value] for value in values]
    if not _is_label(feature):
        raise UsageError(f"column '{label}' of '{tables.name}' holds {feature}, which are no classes")
    return values


def _classes(tables: Tables, names_by_split: dict[str, list], used: list[str], label: str) -> list[str]:
    """The names of the classes; `names_by_split` of the used splits is changed to these names."""
    for split in used:
        if missing := sum(one is None for one in names_by_split[split]):
            total = len(names_by_split[split])
            raise FedgateError(f"'{tables.name}': {missing} of {total} examples have no '{label}' in the {split} split")
    feature = tables.features[label]
    declared = isinstance(feature, datasets.ClassLabel)
    found = feature.names if declared else sorted(set(names_by_split["train"]))  # numbers by size
    classes = list(dict.fromkeys(map(_spell, found)))
    for split in used:
        names_by_split[split] = list(map(_spell, names_by_split[split]))
        check_classes(split, tables.name, sorted(set(names_by_split[split])), classes)
    return classes


def _spell(name) -> str:
    return printable(unicodedata.normalize("NFC", str(name)))


def encoded_pictures(tables: Tables, split: str, image: str) -> list[Encoded]:
    """The pictures of a split. Raises `FedgateError` for an example without the bytes of one."""
    found = []
    for i, cell in enumerate(tables.splits[split][image].to_pylist()):
        content, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
        where = f"{path + ' ' if path else ''}(example {i} of the {split} split)"
        if content is None:
            raise FedgateError(f"'{tables.name}' has no image for {where}: wanted are the bytes of one, not its path")
        found.append(Encoded(content, where))
    return found
