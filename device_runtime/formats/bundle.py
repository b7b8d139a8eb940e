"""A bundle: a folder NAME.fedgate/ with manifest.json, programs, salience.safetensors and reference.safetensors."""

import contextlib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from ..errors import FedgateError, UsageError
from ..storage import exchange, read_file, read_regular, scratch_folder, sync_folder
from .manifest import TAIL_FILE, Manifest, Program, parse_manifest, plain_name, render_manifest
from .outside import DamagedError, refuse_outside
from .records import load_reference, load_salience
from .tail import Tail, load_tail

LARGEST_MANIFEST = 2**24
LARGEST_FILE = 2**31 - 1  # where the formats of all three runtimes end


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files were found and hashed."""

    path: Path
    manifest: Manifest

    def file(self, name: str) -> Path:
        """Where a file is. What is to be trusted comes from `read`."""
        return self.path / name

    def read(self, name: str) -> bytes:
        """The bytes of a file that the manifest names, hashed again: it may have been swapped since the loading."""
        return _read(self.path, name, *_listed(self.manifest)[name])

    def program(self, program: Program) -> bytes:
        """The bytes of a program, for a runtime. Raises `FedgateError` for one that would read another file."""
        data = _read(self.path, program.file, program.sha256, program.bytes)
        refuse_outside(program.runtime, program.file, data)
        return data

    def reference(self):
        """The checked `Reference` of this bundle. Raises `FedgateError`."""
        return load_reference(self.read("reference.safetensors"), self.file("reference.safetensors"), self.manifest)

    def salience(self):
        """The checked salience records by scope. Raises `FedgateError`."""
        return load_salience(self.read("salience.safetensors"), self.file("salience.safetensors"), self.manifest)

    def tail(self) -> Tail:
        """The checked tail of a bundle that trains. Raises `FedgateError`, `UsageError` for one that does not."""
        if self.manifest.tail is None:
            raise UsageError(f"{self.path} has nothing to train: export it with --trainable head or last-stage")
        return load_tail(self.read(TAIL_FILE), self.file(TAIL_FILE), self.manifest)


def load_bundle(path: Path) -> Bundle:
    """Load a bundle: check the manifest, and every file that it names: its size, its SHA-256, and that it is complete.

    Raises `FedgateError` for a folder that is no bundle, a file that is missing, changed, a link or no file, and for a
    program that would read a file of its own (`outside`).
    """
    path = Path(path)
    if not path.is_dir():
        raise FedgateError(f"{path} is not a bundle: no such folder")
    place = path / "manifest.json"
    if not os.path.lexists(place):
        raise FedgateError(f"{path} is not a bundle: it has no manifest.json")
    manifest = parse_manifest(read_regular(place, LARGEST_MANIFEST))
    runtimes = {program.file: program.runtime for program in manifest.programs}
    for name, (sha256, size) in _listed(manifest).items():
        data = _read(path, name, sha256, size)
        if name in runtimes:
            with contextlib.suppress(DamagedError):  # the others may still be of use
                refuse_outside(runtimes[name], name, data)
    return Bundle(path, manifest)


def listing(data: bytes) -> dict:
    """What a manifest says of a file with these bytes."""
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def _listed(manifest: Manifest) -> dict[str, tuple[str, int]]:
    """name -> (SHA-256, bytes) of every file that the manifest names."""
    return {program.file: (program.sha256, program.bytes) for program in manifest.programs} | manifest.files


def _read(folder: Path, name: str, sha256: str, size: int) -> bytes:
    place = folder / name
    if not os.path.lexists(place):
        raise FedgateError(f"{folder} has no {name}, which its manifest names")
    data = read_regular(place, LARGEST_FILE)
    if len(data) != size or hashlib.sha256(data).hexdigest() != sha256:
        raise FedgateError(f"{place} was changed after it was written: its SHA-256 does not match the manifest")
    return data


def write_bundle(path: Path, fields: dict, files: dict[str, bytes | Path], overwrite: bool = False) -> Bundle:
    """Write a bundle whole or not at all, and return it loaded.

    Args:
        path: the folder to make; refused if it exists, unless `overwrite` and it is a bundle.
        fields: the manifest's fields without format, version, files and digest; programs without sha256 and bytes.
        files: the content of every program and of the two record files, as bytes or as a path to copy.
    Raises `FedgateError` if the result would not load, `UsageError` if `path` is taken.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists; remove it or choose another name")
    if path.exists() and not (path / "manifest.json").is_file():
        raise UsageError(f"{path} exists and is not a bundle, so it is not overwritten")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(path.parent, path.name) as folder:
            folder.chmod(0o755)
            entries = {}
            for name, content in files.items():
                data = content if isinstance(content, bytes) else read_file(content)
                _write(folder / plain_name(name), data)
                entries[name] = listing(data)
            programs = [{**program, **entries.pop(program["file"], {})} for program in fields["programs"]]
            manifest = render_manifest({**fields, "programs": programs, "files": entries})
            _write(folder / "manifest.json", manifest)
            bundle = load_bundle(folder)
            bundle.reference()
            bundle.salience()
            if bundle.manifest.tail is not None:
                bundle.tail()
            sync_folder(folder)
            _replace(folder, path)
            return Bundle(path, bundle.manifest)
    except OSError as error:
        raise FedgateError(f"cannot write {path}: {error.strerror or error}") from error


def _write(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _replace(folder: Path, path: Path) -> None:
    """Move `folder` to `path`; an old one there is then in its place, so that at no instant there is none."""
    if path.exists():
        exchange(folder, path)
    else:
        os.rename(folder, path)
    sync_folder(path.parent)
