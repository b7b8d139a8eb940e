"""Building the kernel with CMake, and finding what was built.

Libraries are kept under the user's cache, in a folder for the processor and the sources they were built from, so that
another version of fedgate never loads them:

    ~/.cache/fedgate/kernels/x86_64-0123456789ab/libfedgate_kernels.so      the C interface alone
                                                 libfedgate_litert.so       LiteRT's delegate
                                                 libfedgate_onnx.so         ONNX Runtime's operators
                                                 libfedgate_executorch-1.4.1.so    ExecuTorch's operator

FEDGATE_KERNELS, where set, is a folder to look in first: for libraries that were built elsewhere.
"""

import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from ..errors import FedgateError, choose
from ..storage import scratch_folder, user_cache

SOURCES = Path(__file__).parent
# target -> (processor, compiler; None: CMake's choice)
TARGETS = {"host": (platform.machine(), None), "aarch64-linux-gnu": ("aarch64", "aarch64-linux-gnu-g++")}
KINDS = ("kernels", "litert", "onnx", "executorch")
NO_COMPILER = "the channel-skipping kernel is built with CMake and a C++20 compiler (Debian: apt install cmake g++)"


@functools.cache
def source_digest() -> str:
    """A short hash of all that the libraries are built from."""
    digest = hashlib.sha256()
    for path in sorted(p for p in SOURCES.rglob("*") if p.suffix in (".h", ".cpp", ".txt")):
        digest.update(f"{path.relative_to(SOURCES)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def cache_folder(target: str = "host") -> Path:
    """Where the libraries of a target are kept."""
    return user_cache() / "kernels" / f"{TARGETS[target][0]}-{source_digest()}"


def executorch_package() -> Path | None:
    """The folder of the installed ExecuTorch wheel, or None."""
    spec = importlib.util.find_spec("executorch")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations)))
    return folder if (folder / "include" / "executorch").is_dir() else None


def file_name(kind: str) -> str:
    """The file of a library; the one for ExecuTorch fits one version of its wheel."""
    version = f"-{importlib.metadata.version('executorch')}" if kind == "executorch" else ""
    return f"libfedgate_{kind}{version}.so"


def find(kind: str) -> Path | None:
    """The library of a kind for this machine, if it was built; builds nothing."""
    if kind == "executorch" and executorch_package() is None:
        return None
    folders = [cache_folder()]
    if os.environ.get("FEDGATE_KERNELS"):
        folders.insert(0, Path(os.environ["FEDGATE_KERNELS"]))
    return next((folder / file_name(kind) for folder in folders if (folder / file_name(kind)).is_file()), None)


def cmake() -> str | None:
    """CMake from the path, or from the environment that runs us."""
    return shutil.which("cmake") or shutil.which("cmake", path=str(Path(sys.executable).parent))


def why_not_buildable(target: str = "host") -> str | None:
    """What is missing to build for a target, or None."""
    compiler = TARGETS[target][1]
    if compiler is not None and shutil.which(compiler) is None:
        return f"{compiler} is not installed (Debian: apt install g++-aarch64-linux-gnu)"
    if cmake() is None or (compiler is None and not any(map(shutil.which, ("c++", "g++", "clang++")))):
        return NO_COMPILER
    return None


def build(target: str = "host", options: tuple[str, ...] = (), folder: Path | None = None) -> dict[str, Path]:
    """Build the libraries of a target; returns the file of each kind.

    options: more definitions for CMake. folder: where to put them, instead of the cache. Raises `UsageError` for an
    unknown target, `FedgateError` with what is missing, or with the compiler's first error.
    """
    choose("target", target, TARGETS)
    reason = why_not_buildable(target)
    if reason:
        raise FedgateError(f"cannot build the kernel: {reason}")
    folder = cache_folder(target) if folder is None else folder
    definitions = ["-DCMAKE_BUILD_TYPE=Release", *options]
    processor, compiler = TARGETS[target]
    if compiler is not None:
        definitions += ["-DCMAKE_SYSTEM_NAME=Linux", f"-DCMAKE_SYSTEM_PROCESSOR={processor}"]
        definitions += [f"-DCMAKE_CXX_COMPILER={compiler}"]
    elif executorch_package() is not None:
        definitions += [f"-DFEDGATE_EXECUTORCH={executorch_package()}"]
    folder.mkdir(parents=True, exist_ok=True)
    built = {}
    with scratch_folder(folder, "build") as work:
        _run([cmake(), "-S", SOURCES, "-B", work, *definitions])
        _run([cmake(), "--build", work, "--parallel", str(os.cpu_count() or 1)])
        for kind in KINDS:
            library = Path(work, f"libfedgate_{kind}.so")
            if library.exists():
                # moved into place whole: another process may be looking
                built[kind] = library.replace(folder / file_name(kind))
    return built


def ensure() -> str | None:
    """Build for this machine what is not there yet; returns None, or in one line why there is no kernel."""
    wanted = [kind for kind in KINDS if kind != "executorch" or executorch_package() is not None]
    if all(find(kind) for kind in wanted):
        return None
    try:
        build()
    except (FedgateError, OSError) as error:
        return str(error)
    return None


def _run(command) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, errors="replace")
    if done.returncode != 0:
        lines = (done.stderr + done.stdout).splitlines()
        line = next((line.strip() for line in lines if "rror" in line), (lines or ["no message"])[-1])
        raise FedgateError(f"the kernel does not build: {line}")
