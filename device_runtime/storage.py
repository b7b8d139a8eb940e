"""Files that are whole or not there: atomic writes, and reads whose failures are one clear line."""

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

from .errors import FedgateError


def user_cache() -> Path:
    """The folder for what can be made again: ~/.cache/fedgate, or below XDG_CACHE_HOME."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "fedgate")


def read_file(path: Path) -> bytes:
    """The bytes of a file; `FedgateError` if it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise FedgateError(f"cannot read {path}: {error.strerror or error}") from error


def write_file(path: Path, data: bytes) -> None:
    """Write `data` so that `path` holds either its old content or all of the new one, also after a power cut."""
    path = Path(path)
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            # mkstemp makes private files; a model or an update is an ordinary one
            os.fchmod(file.fileno(), 0o644)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        raise FedgateError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


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
