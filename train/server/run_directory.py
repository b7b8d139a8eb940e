"""A run's folder: config.json, metrics.jsonl, TensorBoard events, checkpoints/, model.safetensors.

Whatever instant the process is killed at, the folder holds a configuration and the last complete checkpoint: folders
and files are written aside, fsynced and renamed.
"""

import fcntl
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedgate.device_runtime.errors import FedgateError, UsageError
from fedgate.device_runtime.formats.checks import Fields, parse_json
from fedgate.device_runtime.formats.tensors import read_tensors, write_tensors
from fedgate.device_runtime.storage import read_file, scratch_folder, sync_folder, write_file

from ..config import TrainConfig
from ..config.resolve import read_config
from .checkpoint import Checkpoint, read_checkpoint, write_checkpoint

KEPT_CHECKPOINTS = 2
# Of config.json, beside the options: what the field holds at least.
FACTS = {
    "resolved": {"device", "precision", "augment"},
    "data": {"name", "sha256", "labels", "shape", "mean", "std"},
    "versions": set(),
}


@dataclass(frozen=True)
class RunInfo:
    """What config.json holds beside the options: facts that were looked up when the run began."""

    run: str
    config: TrainConfig
    resolved: dict  # precision, device, augment; hashes of what it is made of: see `ingredients.with_files`
    data: dict  # name, sha256, labels, shape, mean, std
    versions: dict


class RunDirectory:
    def __init__(self, path, info: RunInfo):
        self.path = Path(path)
        self.info = info

    @classmethod
    def create(cls, path, info):
        """Make a new run directory; refuses one that exists."""
        path = Path(path)
        check_new(path)
        document = {
            "format": "fedgate-run",
            "version": 1,
            "run": info.run,
            "config": json.loads(info.config.to_json()),
            "resolved": info.resolved,
            "data": info.data,
            "versions": info.versions,
        }
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with scratch_folder(path.parent, path.name) as aside:
                aside.chmod(0o755)
                (aside / "checkpoints").mkdir()
                write_file(aside / "config.json", json.dumps(document, indent=1, sort_keys=True).encode() + b"\n")
                sync_folder(aside)
                os.rename(aside, path)
            sync_folder(path.parent)
        except OSError as error:
            raise FedgateError(f"cannot create the run directory {path}: {error.strerror or error}") from error
        return cls(path, info)

    @classmethod
    def open(cls, path):
        """Open an existing run directory; a missing or damaged one is a `FedgateError`."""
        path = Path(path)
        if not path.is_dir():
            raise FedgateError(f"{path} is no run directory: no such folder")
        if not (path / "config.json").is_file():
            raise FedgateError(f"{path} is no run directory: it has no config.json")
        document = Fields(parse_json(read_file(path / "config.json"), f"{path}/config.json"), f"{path}/config.json")
        if (document.get("format"), document.get("version")) != ("fedgate-run", 1):
            raise FedgateError(f"{path} holds a run of another format version: this fedgate reads fedgate-run 1")
        try:
            config = read_config(json.dumps(document.get("config")))
        except UsageError as error:
            raise FedgateError(f"{path}/config.json is damaged: {error}") from error
        for key, names in FACTS.items():
            value = document.get(key)
            if not isinstance(value, dict) or not names <= set(value):
                document.refuse(key, f"an object with {', '.join(sorted(names))}")
        return cls(path, RunInfo(document.text("run"), config, *(document.get(key) for key in FACTS)))

    # Checkpoints

    def checkpoints(self):
        """Complete checkpoints, the newest first: (round, folder)."""
        found = []
        for folder in (self.path / "checkpoints").glob("round-*"):
            if folder.name.removeprefix("round-").isdigit():
                found.append((int(folder.name.removeprefix("round-")), folder))
        return sorted(found, reverse=True)

    def save(self, checkpoint: Checkpoint):
        """Write the checkpoint of a round; an earlier one stays until this one is complete."""
        parent, round_ = self.path / "checkpoints", checkpoint.state.round
        name = f"round-{round_:05d}"
        aside = parent / f".{name}"
        try:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()
            write_checkpoint(aside, checkpoint, {"run": self.info.run, "config": self.info.config.to_json()})
            sync_folder(aside)
            os.rename(aside, parent / name)
            sync_folder(parent)
        except (OSError, FedgateError) as error:
            shutil.rmtree(aside, ignore_errors=True)
            raise FedgateError(
                f"cannot write the checkpoint of round {round_}: {error}; when it can be written, "
                f"continue with: fedgate train --resume {self.path}"
            ) from error
        for _, folder in self.checkpoints()[KEPT_CHECKPOINTS:]:
            shutil.rmtree(folder, ignore_errors=True)

    def load(self):
        """The newest `Checkpoint`, or None where there is none yet.

        A checkpoint is renamed into place when it is whole, so a damaged one was damaged from outside: a
        `FedgateError` says which, and leaves it to the user to fall back on the one before it.
        """
        for _, folder in self.checkpoints():
            try:
                checkpoint, meta = read_checkpoint(folder)
            except FedgateError as error:
                raise FedgateError(f"{error}; remove {folder} to go on from what was before it") from error
            if meta.get("run") != self.info.run or not self.has_config(meta.get("config")):
                raise FedgateError(f"{folder} belongs to another run than {self.path}/config.json: put its own back")
            return checkpoint
        return None

    def has_config(self, text):
        """Whether a checkpoint's JSON text is this run's configuration, as whichever fedgate wrote it."""
        try:
            return read_config(text) == self.info.config
        except UsageError:
            return False

    # Results

    @property
    def model_path(self):
        return self.path / "model.safetensors"

    def write_model(self, state):
        """Write the finished model, byte for byte the same for the same run."""
        meta = {"format": "fedgate-model", "version": 1, "round": state.round}
        write_tensors(self.model_path, state.tensors, meta)

    def model_tensors(self):
        """Tensors of the finished model, or of the newest checkpoint of an unfinished run."""
        loaded = self.load()  # first, as it refuses another run's config.json
        if self.model_path.exists():
            return read_tensors(self.model_path)[0]
        if loaded is None:
            raise FedgateError(f"{self.path} has no finished round yet: fedgate train --resume {self.path}")
        return loaded.state.tensors


def check_new(path):
    """Refuse a path for a new run where something stands."""
    if (Path(path) / "config.json").exists():
        raise UsageError(f"{path} exists: continue it with --resume {path}, or choose another --out")
    if Path(path).exists():
        raise UsageError(f"{path} exists and is no run: choose another --out")


class MetricsLog:
    """metrics.jsonl: one JSON object a line, appended; cut back to a checkpoint on resume.

    Its lock makes sure that one process at a time works on a run; the kernel drops it when that process ends.
    """

    def __init__(self, path):
        self.path = path
        try:
            self.file = open(path, "ab")  # noqa: SIM115 (lives as long as the run)
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FedgateError(f"another process is training {path.parent}: wait for it or stop it first") from error
        except OSError as error:
            raise FedgateError(f"cannot write {path}: {error.strerror}") from error

    def cut(self, length):
        """Keep the first `length` bytes: what was there when the checkpoint was written."""
        if os.path.getsize(self.path) < length:
            raise FedgateError(f"{self.path} has lost rows that its checkpoint had: put the whole file back")
        self.file.truncate(length)

    def write(self, row):
        self.file.write(json.dumps(row, default=as_json).encode() + b"\n")

    def sync(self):
        """Flush to disk; returns the length in bytes."""
        self.file.flush()
        os.fsync(self.file.fileno())
        return self.file.tell()

    def close(self):
        self.file.close()


def as_json(value):
    """JSON for the numpy scalars and arrays that rows may hold."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON")
