"""What an emulated target takes from the machine it runs on, and the one line that says what is missing."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

from ...errors import FedgateError

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
PLUGIN_API_1 = range(7, 9)  # QEMU 9 takes plugins of its API 2 alone, in which counters are declared differently


def check_emulator() -> None:
    """Raise `FedgateError` unless qemu-aarch64 is here and loads the counting plugin."""
    if not sys.platform.startswith("linux"):
        raise FedgateError(f"an emulated target needs Linux: qemu-user runs ARM programs on it, not on {sys.platform}")
    _need({"qemu-aarch64": "qemu-user"})
    version = emulator_version()
    major = re.match(r"\d+", version)
    if not major or int(major[0]) not in PLUGIN_API_1:
        raise FedgateError(f"qemu-aarch64 is version {version}; counting needs 7 or 8, such as Debian 12's qemu-user")
    # a static build cannot load plugins, and says so only by not listing the option
    if "-plugin" not in _output("qemu-aarch64", "-help"):
        raise FedgateError("this qemu-aarch64 takes no plugins; the dynamic build does: apt install qemu-user")


def emulator_version() -> str:
    """The version of qemu-aarch64, as "7.2.22"."""
    found = re.search(r"version (\S+)", _output("qemu-aarch64", "--version"))
    return found[1] if found else "unknown"


def check_builder() -> None:
    """Raise `FedgateError` unless all is here that makes the arm64 root, which happens once."""
    _need({"mmdebstrap": "mmdebstrap", "cc": "gcc"}, {KEYRING: "debian-archive-keyring"})
    if importlib.util.find_spec("pip") is None:
        raise FedgateError(f"{sys.executable} has no pip, which fetches the ARM wheels: {sys.executable} -m ensurepip")


def _need(commands: dict[str, str], files: dict[Path, str] | None = None) -> None:
    missing = {command: package for command, package in commands.items() if shutil.which(command) is None}
    missing |= {str(path): package for path, package in (files or {}).items() if not path.exists()}
    if missing:
        raise FedgateError(
            f"an emulated target needs {', '.join(missing)}: install with: apt install {' '.join(missing.values())}"
        )


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, errors="replace").stdout
