"""The folder of a fine-tuning: `work` while it goes on, then its results alone."""

import contextlib
import fcntl
import shutil
from pathlib import Path

from ..errors import FedgateError, UsageError

PERSONAL = "personal.safetensors"
WORK, DONE_WITH = "work", ".work.part"


def check_out(out: Path) -> None:
    """Refuse a folder that is taken, but not one in which a fine-tuning was interrupted."""
    shutil.rmtree(out / DONE_WITH, ignore_errors=True)
    if (out / PERSONAL).exists() and not (out / WORK).is_dir():
        raise UsageError(f"{out} holds a finished fine-tuning: choose another --out")
    if out.exists() and not (out / WORK).is_dir() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists and is no fine-tuning: choose another --out")


@contextlib.contextmanager
def only_here(folder: Path):
    """Hold a folder for this process; the kernel lets go of it when that ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "lock", "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
    except BlockingIOError as error:
        raise FedgateError(f"another process is working in {folder.parent}: wait for it or stop it first") from error
    except OSError as error:
        raise FedgateError(f"cannot write {folder}: {error.strerror or error}") from error


def remove_work(out: Path) -> None:
    """Remove what was only for going on after an interruption: without it the fine-tuning is finished."""
    with contextlib.suppress(OSError):
        (out / WORK).rename(out / DONE_WITH)  # in one step, as half of it would be damaged
        shutil.rmtree(out / DONE_WITH)
