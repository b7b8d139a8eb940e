"""Image classification data in memory: where a name leads to, the test split, and the statistics of the pixels."""

import functools
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fedgate.device_runtime.errors import FedgateError, UsageError
from fedgate.device_runtime.formats.checks import is_text
from fedgate.device_runtime.formats.manifest import WHITE
from fedgate.device_runtime.pictures.fit import parse_colour
from fedgate.device_runtime.pictures.folders import Tree
from fedgate.device_runtime.text import printable

from .decoding import Reading
from .folders import folder_of, read_folder
from .source import KNOWN, Source, Split

TEST_SHARE = 0.2


@dataclass(frozen=True)
class ImageData:
    """A data set held in memory, on the CPU. All images have one size.

    mean and std: C floats each, of the training pixels scaled to [0, 1]. augment: the augmentation that suits the
    data (a name of `augment.AUGMENTATIONS`). train_groups: the natural id of each training example, from the
    column `group`. notes: choices made in reading, one line each, to be shown to the user.
    """

    name: str
    labels: list[str]  # by class
    train_images: torch.Tensor  # uint8 (N, C, H, W)
    train_labels: torch.Tensor  # int64 (N,)
    test_images: torch.Tensor  # uint8 (M, C, H, W)
    test_labels: torch.Tensor  # int64 (M,)
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: str
    train_groups: np.ndarray | None = None
    group: str | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @functools.cached_property
    def sha256(self):
        """Hash of all images and labels, in hex; worked out once."""
        digest = hashlib.sha256()
        for tensor in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(tensor.contiguous().numpy())
        return digest.hexdigest()


def load_data(
    name: str = "digits",
    label: str | None = None,
    group: str | None = None,
    size: int | None = None,
    image: str | None = None,
    background: str = "white",
    skip_unreadable: bool = False,
) -> ImageData:
    """Load a data set by name: `digits`, a folder, a Hugging Face hub name, or the CIFAR-10 binary archive.

    label, image: the columns to predict and to look at, where several could be meant or their types do not tell.
    group: the column of natural ids (writers, users) for the partition "natural". size: resize every image to
    (size, size); without it see `decoding.decode_images`. background: what is transparent becomes this colour.
    skip_unreadable: leave out damaged pictures. Without a test split, the validation split is the test split, or else a
    fixed, stratified fifth of the training examples: never another one by another seed, so runs can be compared. Raises
    UsageError for a wrong request, FedgateError for data that cannot be read.
    """
    path, colour = Path(name).expanduser(), parse_colour(background)
    is_hub_name = re.fullmatch(r"\w[\w.-]*/[\w.-]+", name) and not path.exists()
    notes = ()
    if name == "digits" or (path.exists() and _is_cifar(path)):
        if label or group or size or image or colour != WHITE or skip_unreadable:
            raise UsageError(
                f"'{name}' has one label, no other column and one size: leave label, group, image, size, background "
                "and skip-unreadable"
            )
        source = _digits() if name == "digits" else _cifar(path)
        if name == "digits" and path.exists():
            notes = ("'digits' are scikit-learn's; give ./digits for the one of that name here",)
    elif path.is_dir() or is_hub_name:
        reading = Reading(size, colour, skip_unreadable)
        source = _pictures(name if is_hub_name else path, (image, label, group), reading)
    else:
        raise UsageError(f"no data '{name}': it is neither a known name nor a folder; known: {KNOWN}")
    source = source._replace(notes=notes + source.notes)
    return _assemble(name if name == "digits" or is_hub_name else _name(path), source, group)


def _name(path: Path) -> str:
    """What a folder or file is called, as a manifest can hold it."""
    name = os.path.basename(os.path.abspath(path)) or "/"
    return printable(name)[:200]


def _pictures(place: Path | str, columns: tuple[str | None, ...], reading: Reading) -> Source:
    """A folder, of parquet files or of pictures by class, or a name on the hub."""
    if isinstance(place, Path):
        found = folder_of(place)
        if isinstance(found, Tree):
            if any(columns):
                raise UsageError(f"'{place}' holds pictures by class and no columns: leave image, label and group")
            return read_folder(found, reading)
    from .hub_tables import read_hub, read_parquet
    from .tables import Columns, read_tables  # takes seconds to import

    tables = read_hub(place) if isinstance(place, str) else read_parquet(place.resolve(), found)
    return read_tables(tables, Columns(*columns), reading)


def _is_cifar(path: Path) -> bool:
    from .cifar_binary import is_cifar_binary

    return is_cifar_binary(path)


def _cifar(path: Path) -> Source:
    from .cifar_binary import read_cifar_binary

    return read_cifar_binary(path)


def _digits() -> Source:
    """scikit-learn's 1,797 8x8 digits (UCI optical recognition of handwritten digits), 0..16 scaled to 0..255."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.from_numpy(np.rint(digits.images * (255 / 16)).astype(np.uint8)).unsqueeze(1)
    labels = torch.from_numpy(digits.target.astype(np.int64))
    return Source([str(name) for name in digits.target_names], Split(images, labels), None)


def _assemble(name: str, source: Source, group: str | None) -> ImageData:
    train, test, notes = source.train, source.test, source.notes
    if wrong := [label for label in source.labels if not is_text(label)]:
        raise UsageError(
            f"'{name}' has a class {wrong[0]!a}, and names of classes are printable texts of 1 to 200 letters"
        )
    if test is None:
        kept, held_out = stratified_split(train.labels, source.labels)
        train, test = _select(train, kept), _select(train, held_out)
        if name != "digits":
            notes += (f"no test split: a fixed stratified {TEST_SHARE:.0%} of the examples is held out as one",)
    mean, std = mean_std(train.images)
    # A mirrored digit or letter is another one; small drawings gain nothing from a shift either.
    augment = "none" if name == "digits" else "crop" if train.images.shape[1] == 1 else "crop-flip"
    return ImageData(
        name=name,
        labels=source.labels,
        train_images=train.images,
        train_labels=train.labels,
        test_images=test.images,
        test_labels=test.labels,
        mean=mean,
        std=std,
        augment=augment,
        train_groups=train.groups,
        group=group,
        notes=notes,
        warnings=source.warnings,
    )


def _select(split: Split, indices: np.ndarray) -> Split:
    chosen = torch.from_numpy(indices)
    return Split(split.images[chosen], split.labels[chosen], None if split.groups is None else split.groups[indices])


def stratified_split(labels: torch.Tensor, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Sorted indices of the training and the held-out examples, every class in proportion; always the same."""
    from sklearn.model_selection import train_test_split

    counts = torch.bincount(labels, minlength=len(names))
    if ((counts > 0) & (counts < 2)).any():
        rare = names[int(torch.where(counts == 1)[0][0])]
        raise FedgateError(f"class '{rare}' has a single image: add images of it, or a test split")
    try:
        kept, held_out = train_test_split(
            np.arange(len(labels)), test_size=TEST_SHARE, stratify=labels.numpy(), random_state=0
        )
    except ValueError as error:
        raise FedgateError(f"cannot hold out a test split ({error}): add images, or a test split") from error
    return np.sort(kept), np.sort(held_out)


def mean_std(images: torch.Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of uint8 (N, C, H, W), scaled to [0, 1]; C floats each.

    Counted by pixel value, so exact and the same on every machine. A constant channel has the deviation of one
    step, 1/255, so that normalising stays finite.
    """
    values = torch.arange(256, dtype=torch.float64) / 255
    mean, std = [], []
    for channel in images.unbind(1):
        share = torch.bincount(channel.flatten(), minlength=256).double() / channel.numel()
        centre = (share * values).sum()
        mean.append(centre.item())
        std.append(max((share * (values - centre) ** 2).sum().sqrt().item(), 1 / 255))
    return tuple(mean), tuple(std)
