"""A machine's files and its firmware's answers; None wherever it does not tell."""

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


def vcgencmd(question: str) -> str | None:
    """What a Raspberry Pi's firmware answers to a question such as get_throttled."""
    tool = shutil.which("vcgencmd")
    if tool is None:
        return None
    try:
        done = subprocess.run([tool, question], capture_output=True, text=True, errors="replace", timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


@dataclass(frozen=True)
class Host:
    """Where a machine's files are found; paths are given without the leading slash."""

    root: Path = Path("/")
    firmware: Callable[[str], str | None] = vcgencmd

    def text(self, path: str | Path) -> str | None:
        try:
            return (self.root / path).read_text(errors="replace").strip().strip("\0")
        except OSError:  # some files of sysfs exist and cannot be read
            return None

    def number(self, path: str | Path) -> int | None:
        try:
            return int(self.text(path) or "")
        except ValueError:
            return None

    def folders(self, pattern: str) -> list[Path]:
        """The folders that match, in the order of their numbers."""
        return sorted(self.root.glob(pattern), key=lambda path: (len(path.name), path.name))
