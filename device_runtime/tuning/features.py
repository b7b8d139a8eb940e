"""What a frozen trunk makes of each example, worked out once and kept on disk.

A folder with features.json (what it was made from, canonical JSON), features.bin (n of float32 (C,) or (C, H, W), row
after row), open.bin (n of the trunk's masks, uint8) and done.bin (n bytes: 0 to be done, 1 done, 2 cannot be read).
The files are read and written in place, a few rows at a time, so that memory does not grow with the data.
"""

import contextlib
import os
import shutil
from pathlib import Path

import numpy as np

from ..errors import FedgateError
from ..formats.checks import canonical_json
from ..storage import write_file

DONE, UNREADABLE = 1, 2
SYNC = 64  # images whose work a killed process may lose


class Features:
    """Rows by index, in the files of `folder`; `close` it, or use it as a context.

    key: a JSON object that says all that the features follow from; a folder of another key is begun anew. count: of
    examples. shape: of one's features; width: of its masks. Raises `FedgateError` where the disk is full.
    """

    def __init__(self, folder: Path, key: dict, count: int, shape: tuple[int, ...], width: int):
        self.folder, self.shape = Path(folder), shape
        self._rows = {"features": (np.dtype("<f4"), shape), "open": (np.dtype("u1"), (width,))}
        self._files, self._pending = {}, []
        text = canonical_json(key | {"count": count, "shape": list(shape), "width": width}).encode()
        with _disk(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            fits = (self.folder / "features.json").is_file() and (self.folder / "features.json").read_bytes() == text
            if not fits:
                (self.folder / "features.json").unlink(missing_ok=True)
                _check_room(self.folder, count * (self._size("features") + width + 1))
            for name, size in (("features", self._size("features")), ("open", width), ("done", 1)):
                self._files[name] = os.open(self.folder / f"{name}.bin", os.O_RDWR | os.O_CREAT, 0o644)
                if not fits:
                    os.ftruncate(self._files[name], 0)
                    os.ftruncate(self._files[name], size * count)
        if not fits:
            write_file(self.folder / "features.json", text)
        self.done = np.frombuffer(os.pread(self._files["done"], count, 0), np.uint8).copy()
        if len(self.done) != count:
            raise FedgateError(f"{self.folder} is damaged: remove it and start again")

    @property
    def bytes(self) -> int:
        """Of all rows on disk."""
        return len(self.done) * (self._size("features") + self._size("open") + 1)

    def put(self, index: int, features: np.ndarray, opened: np.ndarray | None) -> None:
        """Keep one example's features (*shape) and masks (width,); it counts as done from the next `sync` on."""
        with _disk(self.folder):
            self._write("features", index, features)
            if opened is not None:
                self._write("open", index, opened)
        self.mark(index, DONE)

    def mark(self, index: int, state: int) -> None:
        self._pending.append((index, state))
        self.done[index] = state
        if len(self._pending) >= SYNC:
            self.sync()

    def sync(self) -> None:
        """Flush what was put; only then is it marked as done, so that a power cut cannot leave marks without rows."""
        with _disk(self.folder):
            os.fsync(self._files["features"])
            os.fsync(self._files["open"])
            for index, state in self._pending:
                os.pwrite(self._files["done"], bytes([state]), index)
            os.fsync(self._files["done"])
        self._pending = []

    def take(self, indices) -> tuple[np.ndarray, np.ndarray]:
        """(features float32 (k, *shape), masks uint8 (k, width)) of some examples."""
        return self._read("features", indices), self._read("open", indices)

    def close(self) -> None:
        for file in self._files.values():
            os.close(file)
        self._files = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(FedgateError):
            self.sync()
        self.close()

    def _size(self, name):
        dtype, shape = self._rows[name]
        return dtype.itemsize * int(np.prod(shape, dtype=np.int64))

    def _write(self, name, index, row):
        dtype, shape = self._rows[name]
        data = np.ascontiguousarray(row, dtype).reshape(shape).tobytes()
        if os.pwrite(self._files[name], data, index * len(data)) != len(data):
            raise FedgateError(f"cannot write {self.folder}: the disk is full")

    def _read(self, name, indices):
        dtype, shape = self._rows[name]
        rows, size = np.zeros((len(indices), *shape), dtype), self._size(name)
        for i, index in enumerate(indices):
            data = os.pread(self._files[name], size, int(index) * size)
            if len(data) != size:
                raise FedgateError(f"{self.folder} is damaged: remove it and start again")
            rows[i] = np.frombuffer(data, dtype).reshape(shape)
        return rows


def _check_room(folder, size):
    """A full disk is found out at the start, and not after an hour."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise FedgateError(f"the features need {size / 1e6:,.0f} MB in {folder}, where {free / 1e6:,.0f} MB are free")


@contextlib.contextmanager
def _disk(folder):
    try:
        yield
    except OSError as error:
        raise FedgateError(f"cannot write {folder}: {error.strerror or error}") from error
