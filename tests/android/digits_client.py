"""A federated run of a network's last stage on digits, its bundle for ExecuTorch, and what one of its clients holds."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from fedgate.device_runtime.bundle import Bundle, load_bundle
from fedgate.device_runtime.tuning.examples import write_samples
from fedgate.export import session
from fedgate.train.config import TrainConfig
from fedgate.train.ingredients import describe_run, prepare
from fedgate.train.rounds import Run
from fedgate.train.run_directory import RunDirectory
from fedgate.train.session import run_training

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


def make(top: Path) -> DigitsClient:
    """Train, export and write the images below `top`."""
    run_training(top / "base", None, quiet=True, options=OPTIONS)
    (top / "inbox").mkdir()
    config = _config(top)
    data, parts = prepare(config)
    with Run(RunDirectory.create(top / "run", describe_run(config, data)), data, parts) as run:
        run.round()
    session.export_run(top / "run", top / "digits.fedgate", ["executorch"], trainable="last-stage")
    chosen = parts[1][np.isin(data.train_labels.numpy()[parts[1]], (2, 3, 5, 7))][:COUNT]
    images, labels = data.train_images.numpy()[chosen], data.train_labels.numpy()[chosen]
    write_samples(top / "samples.safetensors", images, labels, data.labels)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        (top / "photos" / data.labels[label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0]).save(top / "photos" / data.labels[label] / f"{index:03}.png")
    return found(top)


def found(top: Path) -> DigitsClient:
    """What `make` left."""
    data, parts = prepare(_config(top))
    return DigitsClient(top, RunDirectory.open(top / "run"), load_bundle(top / "digits.fedgate"), data, parts)


def _config(top):
    return TrainConfig(**OPTIONS, trainable="last-stage", base=str(top / "base"), inbox=str(top / "inbox"))
