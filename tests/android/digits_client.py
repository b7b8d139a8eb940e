"""A federated run of a network's last stage on digits, its bundle for ExecuTorch, and what one of its clients holds."""

from dataclasses import dataclass
from pathlib import Path

from last_stage import last_stage_config, run_last_stage, write_images

from fedgate.device_runtime.formats.bundle import Bundle, load_bundle
from fedgate.device_runtime.formats.signed import ClientKey, derive_key
from fedgate.export import pipeline as session
from fedgate.train.ingredients import prepare
from fedgate.train.server.run_directory import RunDirectory
from fedgate.train.server.senders import run_secret

OPTIONS = {"clients": 3, "rounds": 1, "local_epochs": 1, "partition": "iid", "batch_size": 64, "density": (0.5, 1.0)}
COUNT = 60  # images of the client: 4 batches of at most 16, and not all of them full


@dataclass(frozen=True)
class DigitsClient:
    """photos: a folder of images by class; samples: the same as recorded samples."""

    top: Path
    run: RunDirectory
    bundle: Bundle
    data: object
    parts: object

    @property
    def photos(self) -> Path:
        return self.top / "photos"

    @property
    def samples(self) -> Path:
        return self.top / "samples.safetensors"

    @property
    def inbox(self) -> Path:
        return self.top / "inbox"

    @property
    def key(self) -> ClientKey:
        return derive_key(run_secret(self.run.path), self.run.info.run, 7)


def make(top: Path) -> DigitsClient:
    """Train, export and write the images below `top`."""
    _, data, parts = run_last_stage(top, OPTIONS)
    session.export_run(top / "run", top / "digits.fedgate", ["executorch"], trainable="last-stage")
    write_images(top, data, parts[1], (2, 3, 5, 7), COUNT)
    return found(top)


def found(top: Path) -> DigitsClient:
    """What `make` left."""
    data, parts = prepare(last_stage_config(top, OPTIONS))
    return DigitsClient(top, RunDirectory.open(top / "run"), load_bundle(top / "digits.fedgate"), data, parts)
