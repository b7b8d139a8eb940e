"""Whatever Hugging Face `datasets` reads: hub names, folders in the hub's layout, folders of images by class."""

import contextlib
import io
from pathlib import Path

import datasets
import huggingface_hub
import numpy as np
import pyarrow.parquet
import torch
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from PIL import Image, ImageOps

from fedgate.device_runtime.errors import FedgateError, UsageError

from .source import KNOWN, Source, Split

TEST_SPLITS = ("test", "validation", "valid", "val")
LARGEST_SIDE = 224
GRAY_MODES = ("1", "L", "LA")
DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "F")


def read_hub_data(name: str, label: str | None, group: str | None, size: int | None) -> Source:
    """Read a folder or a hub data set; `label`, `group` and `size` as in `data.load_data`.

    The column of type Image holds the images; the column of type ClassLabel is the label, unless `label` names
    another one, whose distinct values are then the classes. Decoding takes about 0.1 ms for each small JPEG.
    """
    with _quiet():
        splits = _load(name)
        if "train" not in splits:
            raise FedgateError(f"'{name}' has no train split, only {', '.join(splits)}")
        image, label = _columns(name, splits["train"].features, label, group)
        train = splits["train"]
        test_name = next((s for s in TEST_SPLITS if s in splits and _is_labelled(splits[s], label)), None)
        used = [train] if test_name is None else [train, splits[test_name]]
        names, labels = _labels(name, used, label)
        encoded = [source for split in used for source in _encoded(split, image)]
        groups = None if group is None else np.array(train[group][:])
    pixels, notes = decode_images(encoded, size)
    if test_name not in (None, "test"):
        notes += (f"no labelled test split: the split '{test_name}' is used as one",)
    n = len(train)
    test = None if test_name is None else Split(pixels[n:], labels[n:])
    return Source(names, Split(pixels[:n], labels[:n], groups), test, notes)


def read_images(folder: str, shape: tuple[int, int, int]) -> torch.Tensor:
    """The images of a folder, labelled or not: uint8 (N, C, H, W) for `shape` (C, H, W).

    folder: of images, or in the hub's parquet layout, of which the train split is read if there is one. Images of
    another size are scaled and cropped to the centre. Raises UsageError for no folder, FedgateError for no images.
    """
    channels, height, width = shape
    if not Path(folder).is_dir():
        raise UsageError(f"'{folder}' is no folder of images")
    if channels not in (1, 3):
        raise FedgateError(f"the network takes {channels} channels, and images have 1 or 3")
    with _quiet():
        splits = _load(folder, "images, or parquet files as on the Hugging Face hub")
        split = splits.get("train") or next(iter(splits.values()))
        encoded = _encoded(split, _image_column(folder, split.features))
    if not encoded:
        raise FedgateError(f"'{folder}' holds no images")
    pixels = np.empty((len(encoded), height, width, channels), np.uint8)
    for i, (source, where) in enumerate(encoded):
        image = _open(source, where).convert("L" if channels == 1 else "RGB")
        image = ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)
        pixels[i] = np.asarray(image).reshape(height, width, channels)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def decode_images(encoded: list[tuple[bytes | str, str]], size: int | None) -> tuple[torch.Tensor, tuple[str, ...]]:
    """Encoded images -> uint8 (N, C, H, W), with C = 1 where all are gray and else 3, and notes for the user.

    encoded: (bytes or a file's path, what to call it in an error). Images of one size whose shorter side is at most
    224 pixels stay as they are. Others, and all images where `size` is given, are scaled and cropped to the centre
    square of `size` pixels, 224 by default, which is the custom for ImageNet. EXIF rotations are applied, alpha is
    dropped. More than 8 bits a channel: FedgateError, as only the user knows which range matters.
    """
    first = _open(*encoded[0])
    if size is None and min(first.size) <= LARGEST_SIDE:
        pixels = _decode(encoded, first.size, fit=False)
        if pixels is not None:
            return pixels, ()
    side = size or LARGEST_SIDE
    why = "" if size else ": they differ in size or are larger (choose another size with `size`)"
    return _decode(encoded, (side, side), fit=True), (f"images are scaled and cropped to {side}x{side}{why}",)


def _decode(encoded, wanted: tuple[int, int], fit: bool) -> torch.Tensor | None:
    """All images as `decode_images` returns them, or None at the first of another size unless `fit`."""
    width, height = wanted
    pixels = np.empty((len(encoded), height, width, 3), np.uint8)
    gray = True
    for i, (source, where) in enumerate(encoded):
        image = _open(source, where)
        gray = gray and image.mode in GRAY_MODES
        image = image.convert("RGB")
        if fit:
            image = ImageOps.fit(image, wanted, Image.Resampling.BICUBIC)
        elif image.size != wanted:
            return None
        pixels[i] = image
    return torch.from_numpy(pixels[..., : 1 if gray else 3]).permute(0, 3, 1, 2).contiguous()


def _open(source: bytes | str, where: str) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
        image.load()
        if "exif" in image.info:
            ImageOps.exif_transpose(image, in_place=True)
    # What Pillow raises for damaged files differs by format.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = "not an image" if isinstance(error, Image.UnidentifiedImageError) else error
        raise FedgateError(f"cannot decode {where} ({reason}): repair or remove it") from error
    if image.mode in DEEP_MODES:
        raise FedgateError(f"{where} has more than 8 bits a channel (mode {image.mode}): convert it to 8 bits")
    return image


def _load(name: str, wanted: str = KNOWN) -> datasets.DatasetDict:
    folder = Path(name).is_dir()
    if not folder:
        _check_hub(name)
    try:
        return datasets.load_dataset(str(Path(name).resolve()) if folder else name)
    except (datasets.data_files.EmptyDatasetError, datasets.exceptions.DataFilesNotFoundError) as error:
        raise FedgateError(f"'{name}' holds no data that can be read; wanted: {wanted}") from error
    except Exception as error:  # a reader for every format, each with errors of its own
        cause = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        where = (_broken_parquet(Path(name)) if folder else None) or name
        raise FedgateError(f"cannot read '{where}': {' '.join(str(cause).split())}") from error


def _check_hub(name: str) -> None:
    """Ask the hub once, for `load_dataset` would try for 23 seconds to reach it."""
    try:
        huggingface_hub.HfApi().dataset_info(name, timeout=10)
    except OfflineModeIsEnabled:  # then load_dataset uses what it has in its cache
        pass
    except HfHubHTTPError as error:
        raise UsageError(f"'{name}' is no folder, nor open on the Hugging Face hub; known: {KNOWN}") from error
    except Exception as error:  # the HTTP client's own, which changed with the hub library's versions
        raise FedgateError(
            f"'{name}' is neither a known name nor a folder, and the Hugging Face hub cannot be reached ({error}): "
            "check the path or the network; HF_HUB_OFFLINE=1 uses a copy that was loaded before"
        ) from error


def _broken_parquet(folder: Path) -> Path | None:
    for path in sorted(folder.rglob("*.parquet")):
        try:
            pyarrow.parquet.ParquetFile(path).close()
        except (OSError, pyarrow.ArrowInvalid):
            return path
    return None


def _columns(name: str, features, label: str | None, group: str | None) -> tuple[str, str]:
    """The names of the image and of the label column."""
    classes = [column for column, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    for column in (label, group):
        if column is not None and column not in features:
            raise UsageError(f"'{name}' has no column '{column}'; known: {', '.join(features)}")
    image = _image_column(name, features)
    if label is None and len(classes) > 1:
        raise UsageError(f"'{name}' has several labels: choose one of the columns {', '.join(classes)}")
    if label is None and not classes:
        raise UsageError(
            f"'{name}' has no column of class labels: choose one of the columns {', '.join(features)}; images by class "
            "need one folder for each class, none of them called train, test or validation"
        )
    return image, label or classes[0]


def _image_column(name: str, features) -> str:
    images = [column for column, feature in features.items() if isinstance(feature, datasets.Image)]
    if len(images) != 1:
        raise FedgateError(f"'{name}' has {len(images)} columns of images, wanted 1 (columns: {', '.join(features)})")
    return images[0]


def _is_labelled(split: datasets.Dataset, label: str) -> bool:
    return label in split.features and any(value not in (None, -1) for value in split[label][:])


def _labels(name: str, splits: list[datasets.Dataset], label: str) -> tuple[list[str], torch.Tensor]:
    """The names of the classes, and the labels int64 (N,) of all splits one after the other."""
    values = [value for split in splits for value in split[label][:]]
    if missing := sum(value in (None, -1) for value in values):
        raise FedgateError(f"'{name}': {missing} of {len(values)} examples have no '{label}'")
    feature = splits[0].features[label]
    if isinstance(feature, datasets.ClassLabel):
        return list(feature.names), torch.tensor(values)
    if not all(isinstance(value, int | str) for value in values):
        raise UsageError(f"column '{label}' of '{name}' holds {feature}, which are no classes")
    names, labels = np.unique(values, return_inverse=True)
    return [str(one) for one in names], torch.from_numpy(labels)


def _encoded(split: datasets.Dataset, image: str) -> list[tuple[bytes | str, str]]:
    """What `decode_images` takes, for every example of the split."""
    rows = split.select_columns([image]).cast_column(image, datasets.Image(decode=False))[:][image]
    found = []
    for i, row in enumerate(rows):
        if row is None:
            raise FedgateError(f"example {i} of the {split.split} split has no image")
        where = f"'{row['path']}'" if row["path"] else "image"
        source = row["path"] if row["bytes"] is None else row["bytes"]
        found.append((source, where if row["bytes"] is None else f"{where} (example {i} of the {split.split} split)"))
    return found


@contextlib.contextmanager
def _quiet():
    """Silence the libraries' progress bars and logs, which repeat what an error says, and restore them after."""
    logs = (datasets.utils.logging, huggingface_hub.utils.logging)
    levels = [log.get_verbosity() for log in logs]
    had_bars = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    for log in logs:
        log.set_verbosity(log.CRITICAL)
    try:
        yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.set_verbosity(level)
        if had_bars:
            datasets.enable_progress_bars()
