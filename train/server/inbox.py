"""A folder into which updates come as files, from devices that are not simulated.

Senders write a file under another name and rename it to NAME.safetensors when it is whole; names that do not end so,
or start with a dot, are left alone. A round reads what is there when it starts. What it has used or refused is moved
before the round's checkpoint is written, to used/RUN-ROUND/ or refused/RUN-ROUND/ (with NAME.reason beside it); whoever
takes up an earlier checkpoint first puts all that later rounds had moved back, so that it is looked at again.

Whoever may write here is a stranger: see `inbox_files`. A file that cannot be moved is told, and used once all the
same, since checkpoints know what was used.
"""

import contextlib
import hashlib
import heapq
import os
from dataclasses import dataclass
from pathlib import Path

from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.text import printable

from .inbox_files import identity, open_folder, open_regular, own_folder, put_file

SUFFIX = ".safetensors"
REASON = ".reason"
MOST_FILES, MOST_BYTES = 1000, 2**32  # of a round; what is left over waits for the next ones
LONGEST = 180  # bytes of a sender's name in the name of a filed file; systems take 255
TOLD = 20  # entries that are no files, in a round's row


@dataclass(frozen=True)
class Letter:
    """A file as it was found.

    digest: SHA-256 of its bytes; of one that is larger than any update, of its size. blob: its bytes, where it is used.
    """

    name: str
    identity: tuple
    digest: str
    too_large: bool = False
    blob: bytes | None = None

    @property
    def shown(self):
        """Its name where it is told."""
        return printable(self.name)

    @property
    def filed(self):
        """The name it gets when it is moved: the same for the same content alone."""
        return f"{self.digest[:16]}-{os.fsdecode(os.fsencode(self.name)[-LONGEST:])}"


class Inbox:
    def __init__(self, folder, run):
        self.folder, self.run = Path(folder), run
        self.stuck = set()  # what could not be moved, and is not looked at again by this process
        self.told = []  # of the last look: {"file", "reason"} of what cannot be read
        check_inbox(folder)

    def letters(self, limit, round_=0):
        """What is there now, sorted by content; what cannot be read is told in `told`.

        limit: bytes of an update. Of more files than a round reads, chance decides which, anew each round.
        """
        found, told, spent = [], [], 0
        with open_folder(self.folder) as folder, os.scandir(folder) as entries:
            names = (entry.name for entry in entries if entry.name.endswith(SUFFIX) and entry.name[0] != ".")
            for name in heapq.nsmallest(MOST_FILES, names, key=lambda name: draw(round_, name)):
                try:
                    with open_regular(name, folder) as (file, status):
                        known = identity(status)
                        if (name, known) in self.stuck:
                            continue
                        if status.st_size > limit:
                            size = f"{status.st_size} bytes".encode()
                            found.append(Letter(name, known, hashlib.sha256(size).hexdigest(), too_large=True))
                        elif spent + status.st_size <= MOST_BYTES:
                            spent += status.st_size
                            found.append(Letter(name, known, hashlib.file_digest(file, "sha256").hexdigest()))
                except FileNotFoundError:  # its sender took it back
                    continue
                except OSError as error:
                    told.append({"file": printable(name), "reason": f"it is left alone: {error.strerror or error}"})
        self.told = told[:TOLD]
        return sorted(found, key=lambda letter: (letter.digest, letter.name))

    def read(self, letter):
        """The bytes of a letter, or None where it is not the file any more that it was."""
        with contextlib.suppress(OSError), open_folder(self.folder) as folder:
            with open_regular(letter.name, folder) as (file, status):
                blob = file.read(status.st_size) if identity(status) == letter.identity else b""
            return blob if hashlib.sha256(blob).hexdigest() == letter.digest else None
        return None

    def move(self, letter, round_, reason=None):
        """Put a file that `round_` has used, or refused with a reason, into its folder; None, or why it cannot be."""
        kind = "used" if reason is None else "refused"
        try:
            with (
                open_folder(self.folder) as folder,
                own_folder(kind, folder, make=True) as kept,
                own_folder(f"{self.run}-{round_:05d}", kept, make=True) as target,
            ):
                if reason is not None:
                    put_file(f"{letter.filed}{REASON}", f"{reason}\n".encode(), target)
                if is_still(letter, folder, letter.name):
                    os.rename(letter.name, letter.filed, src_dir_fd=folder, dst_dir_fd=target)
                    if not is_still(
                        letter, target, letter.filed
                    ):  # exchanged at the last instant: the next round reads it
                        os.rename(letter.filed, letter.name, src_dir_fd=target, dst_dir_fd=folder)
                if letter.blob is not None:  # where its sender has put another one there, or taken it back
                    put_file(letter.filed, letter.blob, target)
                for each in (target, kept, folder):
                    os.fsync(each)
        except OSError as error:
            self.stuck.add((letter.name, letter.identity))
            return f"it cannot be moved to {kind}/: {error.strerror or error}"
        return None

    def restore(self, done):
        """Put back what rounds after `done` had moved: their checkpoints are lost, and so is what they made of it."""
        for kind in ("used", "refused"):
            with contextlib.suppress(OSError), open_folder(self.folder) as folder, own_folder(kind, folder) as kept:
                for name in sorted(os.listdir(kept)):
                    run, _, round_ = name.rpartition("-")
                    if run == self.run and round_.isdigit() and int(round_) > done:
                        with own_folder(name, kept) as later:
                            self._put_back(later, folder)
                        os.rmdir(name, dir_fd=kept)

    def _put_back(self, later, folder):
        for name in sorted(os.listdir(later)):
            if name.endswith(REASON) or name.startswith("."):  # what a killed process had begun to write
                os.unlink(name, dir_fd=later)
                continue
            taken = any(entry == name[17:] for entry in os.listdir(folder))
            os.rename(name, name if taken else name[17:], src_dir_fd=later, dst_dir_fd=folder)
        os.fsync(folder)


def is_still(letter, folder, name):
    """Whether a name in a folder (a descriptor) is the file that the letter was."""
    try:
        return identity(os.stat(name, dir_fd=folder, follow_symlinks=False)) == letter.identity
    except FileNotFoundError:
        return False


def draw(round_, name):
    """A key that orders names anew each round, so that nobody's name is always the last."""
    return hashlib.sha256(f"{round_}\0".encode() + os.fsencode(name)).digest()


def check_inbox(folder):
    """Refuse an inbox that is not there: it may be misspelt, and its senders would wait for ever."""
    if not Path(folder).is_dir():
        raise FedgateError(f"--inbox {folder}: no such folder")
