"""A run's folder: config.json, metrics.jsonl, TensorBoard events, checkpoints/, model.safetensors.

Whatever instant the process is killed at, the folder holds a configuration and the last complete checkpoint: folders
and files are written aside, fsynced and renamed.
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedgate.device_runtime.errors import FedgateError, UsageError
from fedgate.device_runtime.storage import sync_folder, write_file
from fedgate.device_runtime.tensors import read_tensors, write_tensors

from .config import TrainConfig
from .salience import SalienceRecord
from .strategies import ServerState

KEPT_CHECKPOINTS = 2


@dataclass(frozen=True)
class RunInfo:
    """What config.json holds beside the options: facts that were looked up when the run began."""

    run: str
    config: TrainConfig
    resolved: dict  # precision, device, augment
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
        if path.exists():
            raise UsageError(f"{path} exists: continue it with --resume {path}, or choose another --out")
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(aside, ignore_errors=True)
            (aside / "checkpoints").mkdir(parents=True)
            document = {
                "format": "fedgate-run",
                "version": 1,
                "run": info.run,
                "config": json.loads(info.config.to_json()),
                "resolved": info.resolved,
                "data": info.data,
                "versions": info.versions,
            }
            write_file(aside / "config.json", json.dumps(document, indent=1, sort_keys=True).encode() + b"\n")
            sync_folder(aside)
            os.rename(aside, path)
            sync_folder(path.parent)
        except OSError as error:
            shutil.rmtree(aside, ignore_errors=True)
            raise FedgateError(f"cannot create the run directory {path}: {error.strerror}") from error
        return cls(path, info)

    @classmethod
    def open(cls, path):
        """Open an existing run directory; a missing or damaged one is a `FedgateError`."""
        path = Path(path)
        try:
            document = json.loads((path / "config.json").read_text(encoding="utf-8"))
            if document["format"] != "fedgate-run" or document["version"] != 1:
                raise FedgateError(f"{path} holds a run of another format version")
            config = TrainConfig.from_json(json.dumps(document["config"]))
            fields = (document[key] for key in ("resolved", "data", "versions"))
            return cls(path, RunInfo(document["run"], config, *fields))
        except OSError as error:
            raise FedgateError(f"{path} is no run directory: config.json: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise FedgateError(f"{path}/config.json is damaged: {error}") from error

    # Checkpoints

    def checkpoints(self):
        """Complete checkpoints, the newest first: (round, folder)."""
        found = []
        for folder in (self.path / "checkpoints").glob("round-*"):
            if folder.name.removeprefix("round-").isdigit():
                found.append((int(folder.name.removeprefix("round-")), folder))
        return sorted(found, reverse=True)

    def save(self, state: ServerState, salience: dict[str, SalienceRecord], progress: dict):
        """Write the checkpoint of a round; an earlier one stays until this one is complete.

        progress: what resuming needs beside the tensors: byte lengths of the logs, totals so far.
        """
        parent = self.path / "checkpoints"
        name = f"round-{state.round:05d}"
        aside = parent / f".{name}"
        try:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()
            meta = {"run": self.info.run, "config": self.info.config.to_json(), "round": state.round}
            write_tensors(aside / "state.safetensors", state.tensors, meta | {"progress": progress})
            records = {}
            for scope, record in salience.items():
                records |= record.tensors(scope)
            write_tensors(aside / "salience.safetensors", records, {"round": state.round})
            sync_folder(aside)
            os.rename(aside, parent / name)
            sync_folder(parent)
        except (OSError, FedgateError) as error:
            shutil.rmtree(aside, ignore_errors=True)
            raise FedgateError(
                f"cannot write the checkpoint of round {state.round}: {error}; the one before it is intact: "
                f"continue with --resume {self.path}"
            ) from error
        for _, folder in self.checkpoints()[KEPT_CHECKPOINTS:]:
            shutil.rmtree(folder, ignore_errors=True)

    def load(self):
        """The newest checkpoint: (state, salience by scope, progress), or None where there is none yet."""
        for round_, folder in self.checkpoints():
            tensors, meta = read_tensors(folder / "state.safetensors")
            if meta.get("run") != self.info.run or meta.get("config") != self.info.config.to_json():
                raise UsageError(f"{folder} belongs to another configuration than {self.path}/config.json")
            arrays, _ = read_tensors(folder / "salience.safetensors")
            scopes = sorted({key.split("/", 1)[0] for key in arrays})
            salience = {scope: SalienceRecord.from_tensors(arrays, scope) for scope in scopes}
            return ServerState(round_, tensors), salience, meta["progress"]
        return None

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
        if self.model_path.exists():
            return read_tensors(self.model_path)[0]
        loaded = self.load()
        if loaded is None:
            raise FedgateError(f"{self.path} has no finished round yet")
        return loaded[0].tensors


class MetricsLog:
    """metrics.jsonl: one JSON object a line, appended; cut back to a checkpoint on resume."""

    def __init__(self, path, length=0):
        """length: bytes to keep of what the file holds."""
        try:
            self.file = open(path, "ab")  # noqa: SIM115 (lives as long as the run)
            self.file.truncate(length)
        except OSError as error:
            raise FedgateError(f"cannot write {path}: {error.strerror}") from error

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
