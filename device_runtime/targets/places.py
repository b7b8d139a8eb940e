"""Which files travel to a device, and where what comes back goes."""

from collections.abc import Iterable
from pathlib import Path

from ..errors import FedgateError, UsageError
from ..formats.bundle import Bundle


def bundle_files(bundle: Bundle) -> dict[str, Path]:
    """What the manifest names, and the manifest: nothing else that lies in the folder."""
    names = ["manifest.json", *(program.file for program in bundle.manifest.programs), *bundle.manifest.files]
    return {name: bundle.file(name) for name in names}


def folder_files(folder: Path) -> dict[str, Path]:
    """Every plain file below a folder, by its path in it. Raises `FedgateError` where there is none."""
    found: Iterable[Path] = (path for path in folder.rglob("*") if path.is_file())
    files = {path.relative_to(folder).as_posix(): path for path in found}
    if not files:
        raise FedgateError(f"{folder} has no files")
    return files


def refuse_taken(out: Path) -> None:
    """Raise a `UsageError` where the folder for what a command writes is in use."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists: choose another --out")


def here_for_there(result: dict, there: str, here: str) -> dict:
    """The result, with the places of what was fetched as they are here."""
    moved = {
        key: here + value.removeprefix(there)
        for key, value in result.items()
        if isinstance(value, str) and value.startswith(f"{there}/")
    }
    return result | moved
