"""A folder into which updates come as files, from devices that are not simulated.

Senders write a file under another name and rename it to NAME.safetensors when it is whole; names that do not end so,
or start with a dot, are left alone. A round reads what is there when it starts. What it has used or refused is moved
before the round's checkpoint is written, to used/RUN-ROUND/ or refused/RUN-ROUND/ (with NAME.reason beside it); whoever
takes up an earlier checkpoint first puts all that later rounds had moved back, so that it is looked at again.
"""

import contextlib
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.storage import sync_folder, write_file

SUFFIX = ".safetensors"
REASON = ".reason"


@dataclass(frozen=True)
class Letter:
    """A file as it was found: its path, identity, SHA-256, and bytes (None where it has more than a round reads)."""

    path: Path
    identity: tuple
    digest: str
    blob: bytes | None

    @property
    def filed(self):
        """The name it gets when it is moved: the same for the same content alone."""
        return f"{self.digest[:16]}-{self.path.name}"


class Inbox:
    def __init__(self, folder, run):
        self.folder, self.run = Path(folder), run
        check_inbox(folder)

    def letters(self, limit):
        """What is there now, sorted by content; the bytes of files up to `limit` bytes are read."""
        found = []
        for path in self.folder.glob(f"*{SUFFIX}"):
            with contextlib.suppress(OSError):  # its sender took it back, or let nobody else read it
                status = path.lstat()
                if stat.S_ISREG(status.st_mode) and not path.name.startswith("."):
                    found.append(read_letter(path, status, limit))
        return sorted(found, key=lambda letter: (letter.digest, letter.path.name))

    def used(self):
        """Content of all that this run has used: {first 16 digits of the SHA-256: round}."""
        files = self.folder.glob(f"used/{self.run}-*/*")
        return {path.name[:16]: int(path.parent.name.rpartition("-")[2]) for path in files}

    def move(self, letter, round_, reason=None):
        """Put a file that `round_` has used, or refused with a reason, into its folder."""
        kind = "used" if reason is None else "refused"
        target = self.folder / kind / f"{self.run}-{round_:05d}"
        target.mkdir(parents=True, exist_ok=True)
        if reason is not None:
            write_file(target / f"{letter.filed}{REASON}", f"{reason}\n".encode())
        if unchanged(letter):
            os.rename(letter.path, target / letter.filed)
        elif letter.blob is not None:  # its sender has put another one there, which the next round reads
            write_file(target / letter.filed, letter.blob)
        for folder in (target, target.parent, self.folder):
            sync_folder(folder)

    def restore(self, done):
        """Put back what rounds after `done` had moved: their checkpoints are lost, and so is what they made of it."""
        for folder in sorted(self.folder.glob(f"*used/{self.run}-*")):
            if int(folder.name.rpartition("-")[2]) > done:
                for path in sorted(folder.iterdir()):
                    if path.suffix == REASON or path.name.startswith("."):  # what a killed process had begun to write
                        path.unlink()
                    else:
                        back = self.folder / path.name[17:]
                        os.rename(path, self.folder / path.name if back.exists() else back)
                sync_folder(self.folder)
                folder.rmdir()


def check_inbox(folder):
    """Refuse an inbox that is not there: it may be misspelt, and its senders would wait for ever."""
    if not Path(folder).is_dir():
        raise FedgateError(f"--inbox {folder}: no such folder")


def identity(status):
    return status.st_ino, status.st_size, status.st_mtime_ns


def unchanged(letter):
    try:
        return identity(letter.path.lstat()) == letter.identity
    except FileNotFoundError:
        return False


def read_letter(path, status, limit):
    with open(path, "rb") as file:
        if status.st_size > limit:
            return Letter(path, identity(status), hashlib.file_digest(file, "sha256").hexdigest(), None)
        blob = file.read(limit + 1)  # it may have grown, where its sender writes in place
    return Letter(path, identity(status), hashlib.sha256(blob).hexdigest(), blob)
