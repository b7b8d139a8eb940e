"""The arm64 root: Debian 12's Python, and what `pip install fedgate[litert]` brings to a Raspberry Pi.

It is made once and kept in the user's cache, in a folder for the recipe, so that another version never uses it:

    ~/.cache/fedgate/arm64-0123456789ab/debian/             packages of Debian 12, extracted
                                        wheels/             click, numpy, rich, safetensors, Pillow, ai-edge-litert
                                        cortex-a72/usr, ... links into debian/: the root that a CPU's programs see
                                        cortex-a72/proc/cpuinfo
                                        cortex-a72/python3.11    a script: the guest's Python under qemu
                                        count.so            the plugin that counts instructions, for this machine

No chroot, no mount and no privilege: qemu-user looks up a program's files below that root first.
"""

import functools
import hashlib
import importlib.metadata
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from ...errors import FedgateError
from ...once import make_once
from ...storage import user_cache
from .cpus import CPUS, cpuinfo
from .emulator import Emulator, last_line
from .needs import check_builder, check_emulator

PLUGIN_SOURCE = Path(__file__).with_name("count.c")
PACKAGES = ("python3-minimal", "libpython3.11-stdlib", "python3.11-minimal", "libstdc++6", "libgomp1")
# A guest starts its children by the path of its own Python, and the kernel cannot execute an ARM program.
PYTHON = """#!/bin/sh
root=${{0%/*}}
exec "$FEDGATE_QEMU" -cpu {cpu} -L "$root" -E PYTHONHOME="$root/usr" -0 "$0" "$root/usr/bin/python3.11" "$@"
"""
GLIBC = range(17, 37)  # Debian 12 has 2.36


def open_emulator(cpu: str, tell: Callable[[str], None] = lambda line: None) -> Emulator:
    """An emulator of one of `CPUS`; makes the arm64 root where it is missing, and tells about it.

    Raises `FedgateError` with what this machine lacks.
    """
    check_emulator()
    return Emulator(cpu, make_root(tell))


def make_root(tell: Callable[[str], None] = lambda line: None) -> Path:
    """The folder of the arm64 root, made first where it is missing; `tell` gets a line about each step.

    Two processes do not make it at once: the second waits for the first. An interrupted one leaves nothing that is
    ever used. Raises `FedgateError` with what is missing, or with the last line of the tool that failed.
    """
    needed = requirements()
    folder = user_cache() / f"arm64-{_recipe(needed)}"
    if not folder.is_dir():
        check_builder()
    wait = functools.partial(tell, "waiting for another process that makes the arm64 root")
    make_once(folder, lambda work: _make(work, folder, needed, tell), wait)
    return folder


def requirements() -> list[str]:
    """What fedgate's own metadata asks for with the extra `litert`: what pip installs on a device."""
    door = __package__.partition(".")[0]
    try:
        lines = importlib.metadata.requires(door) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise FedgateError(f"{door} is not installed here as a package, so its requirements are unknown") from error
    parts = [line.partition(";") for line in lines]
    return [
        requirement.strip()
        for requirement, _, marker in parts
        if not marker.strip() or re.fullmatch(r"extra == ['\"]litert['\"]", marker.strip())
    ]


def _recipe(needed: list[str]) -> str:
    """A short hash of all that the root is made from."""
    sources = [path.read_bytes() for path in (Path(__file__), Path(__file__).with_name("cpus.py"), PLUGIN_SOURCE)]
    constraints = os.environ.get("PIP_CONSTRAINT", "")  # pip's own variable
    if constraints and Path(constraints).is_file():
        sources.append(Path(constraints).read_bytes())
    return hashlib.sha256(b"\0".join([*sources, "\n".join(needed).encode()])).hexdigest()[:12]


def _make(work: Path, folder: Path, needed: list[str], tell) -> None:
    """Make the root in `work`, which then becomes `folder`."""
    tell(f"making the arm64 root, once, in {folder} (about 250 MB)")
    tell("extracting Debian packages")
    _run("mmdebstrap", *_debian(work / "debian"))
    tell("fetching ARM wheels: " + ", ".join(needed))
    _run(sys.executable, "-m", "pip", *_pip(work / "wheels", needed))
    tell("compiling the plugin that counts")
    compile_plugin(work / "count.so")
    for cpu in CPUS:
        _show(work, cpu)
    tell("compiling Python's library, and trying LiteRT")
    _try(work)


def compile_plugin(library: Path) -> None:
    """Compile the plugin that counts. Raises `FedgateError`."""
    _run("cc", "-O2", "-shared", "-fPIC", "-o", library, PLUGIN_SOURCE)


def _debian(folder: Path) -> list:
    # chrootless: nothing of the packages runs, so it takes neither root nor namespaces
    mode = ["--mode=chrootless", "--variant=extract", "--arch=arm64"]
    return [*mode, f"--include={','.join(PACKAGES)}", "bookworm", folder]


def _pip(folder: Path, needed: list[str]) -> list:
    platforms = [*(f"manylinux_2_{minor}_aarch64" for minor in GLIBC), "manylinux2014_aarch64", "any"]
    return [
        *("--disable-pip-version-check", "install", "-q", "--target", folder, "--only-binary", ":all:"),
        *("--python-version", "3.11", "--implementation", "cp"),
        *(word for abi in ("cp311", "abi3", "none") for word in ("--abi", abi)),
        *(word for platform in platforms for word in ("--platform", platform)),
        *needed,
    ]


def _show(work: Path, cpu: str) -> None:
    """The root as programs on one CPU see it. LiteRT chooses its kernels by /proc/cpuinfo, and crashes without."""
    view = work / cpu
    (view / "proc").mkdir(parents=True)
    for entry in (work / "debian").iterdir():
        if entry.name != "proc":
            (view / entry.name).symlink_to(Path("..", "debian", entry.name))
    (view / "proc" / "cpuinfo").write_text(cpuinfo(cpu))
    python = view / "python3.11"
    python.write_text(PYTHON.format(cpu=cpu))
    python.chmod(0o755)


def _try(work: Path) -> None:
    """Import what inferences need, as proof that the root works; first everything is compiled to bytecode."""
    emulator = Emulator(next(iter(CPUS)), work)
    # Whatever cannot be compiled is not imported either. Afterwards nothing in the root ever changes.
    emulator.run("-m", "compileall", "-q", work / "debian" / "usr" / "lib" / "python3.11", work / "wheels")
    done = emulator.run("-c", "import PIL.Image, ai_edge_litert.interpreter, click, numpy, rich, safetensors.numpy")
    if done.returncode != 0:
        raise FedgateError(f"cannot make the arm64 root: LiteRT does not import in it: {last_line(done.stderr)}")


def _run(*command) -> None:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"}
    done = subprocess.run(list(map(str, command)), **pipes)
    if done.returncode != 0:
        lines = [line for line in done.stdout.splitlines() if line.strip()] or ["no message"]
        line = next((line for line in lines if line.startswith(("E:", "ERROR:"))), lines[-1])
        raise FedgateError(f"cannot make the arm64 root: {Path(command[0]).name} failed: {line.strip()}")
