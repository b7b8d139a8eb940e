"""The official binary version of CIFAR-10 (A. Krizhevsky, 2009, https://www.cs.toronto.edu/~kriz/cifar.html).

A record is 3,073 bytes: the label, then 1,024 red, 1,024 green and 1,024 blue pixels, row by row. The pickled
version is refused: unpickling runs what is in the file.
"""

import hashlib
import tarfile
from pathlib import Path

import numpy as np
import torch

from fedgate.device_runtime.errors import FedgateError, UsageError

from .source import Source, Split

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
RECORD = 1 + 3 * 32 * 32
FOLDER = "cifar-10-batches-bin"
# The archive's MD5 stands on the page above.
ARCHIVE_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
# Those of the files in it do not; two independent public loaders of the archive list the same six.
FILE_MD5S = {
    "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
    "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
    "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
    "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
    "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
    "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
}


def is_cifar_binary(path: Path) -> bool:
    """Whether `path` claims to be the archive or its extracted folder (either may still fail its MD5)."""
    return (path.is_file() and path.name.endswith(".tar.gz")) or (path / "test_batch.bin").is_file()


def read_cifar_binary(path: Path, archive_md5: str = ARCHIVE_MD5, file_md5s: dict[str, str] = FILE_MD5S) -> Source:
    """Read `cifar-10-binary.tar.gz`, without extracting it, or the folder that was extracted from it.

    Raises UsageError for anything whose MD5 is not the published one: only then are its labels known.
    """
    try:
        blobs = _archive(path, archive_md5) if path.is_file() else _folder(path, file_md5s)
    except (OSError, KeyError, tarfile.TarError) as error:
        raise FedgateError(f"cannot read '{path}': {error}; download {path.name} again") from error
    *train, test = (read_records(blob) for blob in blobs)
    images, labels = (torch.cat(parts) for parts in zip(*train, strict=True))
    return Source(CLASSES, Split(images, labels), Split(*test))


def read_records(blob: bytes) -> tuple[torch.Tensor, torch.Tensor]:
    """Binary records -> images uint8 (N, 3, 32, 32) and labels int64 (N,)."""
    if len(blob) % RECORD:
        raise FedgateError(f"CIFAR-10 records have {RECORD} bytes; {len(blob)} bytes are no whole number of them")
    records = np.frombuffer(blob, np.uint8).reshape(-1, RECORD)
    labels = torch.from_numpy(records[:, 0].astype(np.int64))
    return torch.from_numpy(records[:, 1:].reshape(-1, 3, 32, 32).copy()), labels


def _archive(path: Path, md5: str) -> list[bytes]:
    with path.open("rb") as file:
        _check(path, hashlib.file_digest(file, "md5").hexdigest(), md5)
    with tarfile.open(path, "r:gz") as archive:
        return [archive.extractfile(f"{FOLDER}/{name}").read() for name in FILE_MD5S]


def _folder(path: Path, md5s: dict[str, str]) -> list[bytes]:
    blobs = [(path / name).read_bytes() for name in md5s]
    for (name, md5), blob in zip(md5s.items(), blobs, strict=True):
        _check(path / name, hashlib.md5(blob).hexdigest(), md5)
    return blobs


def _check(path: Path, found: str, wanted: str) -> None:
    if found != wanted:
        raise UsageError(
            f"'{path}' is not part of the official cifar-10-binary.tar.gz (MD5 {found}, not {wanted}); "
            "download it from https://www.cs.toronto.edu/~kriz/cifar.html"
        )
