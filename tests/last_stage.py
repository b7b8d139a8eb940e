"""A federated run of a network's last stage, and the images that one of its clients holds."""

import numpy as np
from PIL import Image

from fedgate.device_runtime.tuning.examples import write_samples
from fedgate.train.commands import run_training
from fedgate.train.config.resolve import resolve
from fedgate.train.engines.make import open_run
from fedgate.train.ingredients import describe_run, prepare
from fedgate.train.server.run_directory import RunDirectory


def run_last_stage(top, options):
    """(`RunDirectory`, data, parts) of top/run, after one round with an inbox, top/inbox; its base is top/base."""
    run_training(top / "base", None, quiet=True, options=options)
    (top / "inbox").mkdir()
    config = last_stage_config(top, options)
    data, parts = prepare(config)
    directory = RunDirectory.create(top / "run", describe_run(config, data))
    with open_run(directory, data, parts) as run:
        run.round()
    return directory, data, parts


def last_stage_config(top, options):
    """What top/run trains."""
    return resolve(**options, trainable="last-stage", base=str(top / "base"), inbox=str(top / "inbox"))


def write_images(top, data, part, classes, count):
    """Write a client's first `count` images of some classes as top/samples.safetensors and top/photos/CLASS/*.png.

    part: the indices of all its images. Returns uint8 (count, C, H, W) and int64 (count,).
    """
    chosen = part[np.isin(data.train_labels.numpy()[part], classes)][:count]
    images, labels = data.train_images.numpy()[chosen], data.train_labels.numpy()[chosen]
    write_samples(top / "samples.safetensors", images, labels, data.labels)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        (top / "photos" / data.labels[label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0]).save(top / "photos" / data.labels[label] / f"{index:03}.png")
    return images, labels
