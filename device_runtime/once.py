"""Folders that are made once and then kept, such as those in the user's cache."""

import fcntl
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from .errors import FedgateError


def make_once(folder: Path, make: Callable[[Path], None], wait: Callable[[], None] = lambda: None) -> None:
    """Have `make` fill an empty folder that then becomes `folder`; nothing is done where `folder` is already.

    An interrupted process leaves nothing that is ever used, and two never make the same folder at once: the second
    calls `wait` and waits for the first. Raises what `make` raises, and `FedgateError` if the folder cannot be written.
    """
    if folder.is_dir():
        return
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with open(folder.with_name(f".{folder.name}.lock"), "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                wait()
                fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.is_dir():
                _make_aside(folder, make)
    except OSError as error:
        raise FedgateError(f"cannot make {folder}: {error.strerror or error}") from error


def _make_aside(folder: Path, make: Callable[[Path], None]) -> None:
    for abandoned in folder.parent.glob(f"{folder.name}-*.part"):  # ours alone to remove: we hold the lock
        shutil.rmtree(abandoned, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", suffix=".part", dir=folder.parent))
    try:
        make(work)
        work.chmod(0o755)
        work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
