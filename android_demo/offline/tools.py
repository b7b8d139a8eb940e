"""Running the tools of the offline build: what is missing, and what failed, is one line; and where results are kept."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.once import make_once
from fedgate.device_runtime.storage import user_cache


def kept(name: str, make: Callable[[Path], None]) -> Path:
    """The folder `name` of the build in the user's cache, filled by `make` where it is missing."""
    folder = user_cache() / "android" / name
    make_once(folder, make)
    return folder


def tell(line: str) -> None:
    """What takes long is said on stderr."""
    print(line, file=sys.stderr, flush=True)


def need(*tools: tuple[str, str]) -> None:
    """Raise `FedgateError` unless all commands and files are here; each comes with the Debian package that has it."""
    missing = {tool: package for tool, package in tools if not shutil.which(tool) and not Path(tool).is_file()}
    if missing:
        packages = " ".join(dict.fromkeys(missing.values()))
        raise FedgateError(f"{', '.join(missing)} missing: install with: apt install {packages}")


def run(what: str, *command, **options) -> str:
    """Run a tool; returns what it printed. `FedgateError` with `what` failed, and the line that says why."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, **options)
    if done.returncode != 0:
        lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()] or ["no message"]
        raise FedgateError(f"{what}: {next((line for line in lines if 'error' in line.lower()), lines[-1])}")
    return done.stdout
