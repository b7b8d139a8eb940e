"""Our own package as the files that another machine needs to run it: text alone, nothing compiled."""

import importlib
from pathlib import Path

CODE = ("*.py",)
KERNEL_SOURCES = ("*.h", "*.cpp", "CMakeLists.txt")


def package_files(kernel_sources: bool = False) -> dict[str, Path]:
    """The command line and device_runtime as an import package: "fedgate/cli.py" -> the file here.

    A folder with these files, on PYTHONPATH, runs `python -m fedgate verify`. With `kernel_sources` also what
    `fedgate kernels build` compiles, and names its libraries after.
    """
    door, _, stage = __package__.rpartition(".")[0].partition(".")
    top = _folder(door)
    files = {f"{door}/{path.name}": path for path in sorted(top.glob("*.py"))}
    stage_folder = _folder(f"{door}.{stage}")
    patterns = CODE + (KERNEL_SOURCES if kernel_sources else ())
    for path in sorted(path for pattern in patterns for path in stage_folder.rglob(pattern)):
        files[f"{door}/{stage}/{path.relative_to(stage_folder).as_posix()}"] = path
    return files


def _folder(package: str) -> Path:
    return Path(importlib.import_module(package).__file__).parent
