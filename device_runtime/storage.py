"""Files that are whole or not there: atomic writes, and reads whose failures are one clear line."""

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
from pathlib import Path

from .errors import FedgateError

PART = ".part"  # ends the name of what is not whole yet
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of Linux


def user_cache() -> Path:
    """The folder for what can be made again: ~/.cache/fedgate, or below XDG_CACHE_HOME."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "fedgate")


def read_file(path: Path) -> bytes:
    """The bytes of a file; `FedgateError` if it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise FedgateError(f"cannot read {path}: {error.strerror or error}") from error


def read_secret(path: Path) -> bytes:
    """The bytes of a file that holds a key; `FedgateError` if it cannot be read, or if others may read it, too."""
    data = read_file(path)
    if os.stat(path).st_mode & 0o077:
        raise FedgateError(f"{path} can be read by others than its owner: chmod 600 {path}")
    return data


def write_file(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write `data` so that `path` holds either its old content or all of the new one, also after a power cut.

    mode: of the file; with 0o600 others cannot read it, not for a moment.
    """
    path = Path(path)
    handle = temporary = None
    try:
        _drop_leftovers(path.parent, path.name)
        handle, temporary = _locked(lambda: tempfile.mkstemp(PART, f".{path.name}.", path.parent))
        os.fchmod(handle, mode)  # mkstemp makes private files
        with os.fdopen(handle, "wb", closefd=False) as file:
            file.write(data)
        os.fsync(handle)
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        raise FedgateError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if handle is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            os.close(handle)


@contextlib.contextmanager
def scratch_folder(parent: Path, name: str):
    """A new private folder in `parent`, for what becomes `name` there when it is whole; gone at the end.

    What killed processes left of the same kind goes first. A context of its path; raises OSError.
    """

    def make():
        folder = tempfile.mkdtemp(PART, f".{name}.", parent)
        return os.open(folder, os.O_RDONLY), folder

    _drop_leftovers(parent, name)
    handle, folder = _locked(make)
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def exchange(one: Path, other: Path) -> None:
    """Let two paths change places in one step; OSError where the system cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None or rename(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) != 0:
        number = ctypes.get_errno() or errno.ENOSYS
        raise OSError(number, os.strerror(number))


def _locked(make):
    """What `make` made: (descriptor, path), locked for as long as it is open, so that nobody takes it for left over."""
    while True:
        handle, path = make()
        with contextlib.suppress(OSError):  # not every file system has locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), os.stat(path)):
                return handle, path
        os.close(handle)  # it was taken for left over before it was locked


def _drop_leftovers(parent: Path, name: str) -> None:
    """Remove what killed processes left of `name`; a living one holds what it works on locked."""
    with os.scandir(parent) as entries:
        found = [entry.path for entry in entries if entry.name.startswith(f".{name}.") and entry.name.endswith(PART)]
    for path in found:
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(handle).st_uid == os.geteuid():
                    os.unlink(path) if not os.path.isdir(path) else shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(handle)


def sync_folder(path: Path) -> None:
    """Flush a folder's entries: without it a renamed file may still be gone after a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_file(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise FedgateError(f"cannot read {path}: {error.strerror or error}") from error


def read_regular(path: Path, most: int) -> bytes:
    """The bytes of a file from a stranger's folder; `FedgateError` for a link, for what is no file, or is too long.

    It is opened once and then looked at, so that nothing else can take its place in between; a pipe is not waited for.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise FedgateError(f"{path} is refused: it is no regular file")
            data = file.read(min(status.st_size, most) + 1)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise FedgateError(f"{path} is refused: it is a link") from error
        raise FedgateError(f"cannot read {path}: {error.strerror or error}") from error
    except MemoryError as error:
        raise FedgateError(f"cannot read {path}: there is not enough memory for it") from error
    if len(data) > most:
        raise FedgateError(f"{path} is larger than {most} bytes")
    return data
