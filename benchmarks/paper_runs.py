"""The trainings of paper.py: one for each arm and seed, kept and resumed (kept_runs.py), and how good they are."""

import functools
import operator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from kept_runs import place, train
from personal import force

from fedgate.device_runtime import macs
from fedgate.export.reference import fixed_masks, kept_by_record
from fedgate.export.session import load_network
from fedgate.train.evaluation import chunks, evaluate
from fedgate.train.ingredients import run_data
from fedgate.train.results import evaluate_run


@dataclass(frozen=True)
class Run:
    """A finished training. rounds: its rounds' rows; evaluated: by `evaluate_run`."""

    path: Path
    rounds: list[dict]
    evaluated: dict


@functools.cache
def finished(config, workers):
    """The `Run` of a `TrainConfig`, trained now as far as it is not there already."""
    rounds = train(config, workers)
    return Run(place(config), rounds, evaluate_run(place(config), workers))


def load_fixed(path):
    """A gated run's network with its masks fixed as its `static` program has them: (run directory, network, kept).

    kept: the channels by gated layer that all training images opened most.
    """
    directory, network = load_network(path)
    kept = kept_by_record(network, directory.load().salience["global"], 0)
    force(network, kept)
    return directory, network, kept


@functools.cache
def static_of(path):
    """Test accuracy and MACs of the network of `load_fixed`."""
    directory, network, kept = load_fixed(path)
    info = directory.info
    data = run_data(info.config)
    statistics, precision = (data.mean, data.std), info.resolved["precision"]
    found = functools.reduce(
        operator.add,
        (
            evaluate(network, data.test_images[part], data.test_labels[part], statistics, precision, len(data.labels))
            for part in chunks(len(data.test_labels))
        ),
    )
    masks = fixed_masks(network.layers, kept)
    return float(found.accuracy()[0]), int(np.sum(macs.total(macs.executed(network.layers, masks))))
