"""The trainings: one for each arm and seed, kept and resumed (kept_runs.py), and how good they are."""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from kept_runs import place, train
from personal import force

from fedgate.device_runtime.formats import macs
from fedgate.export.pipeline import load_network
from fedgate.export.reference import fixed_masks, kept_by_record
from fedgate.train.ingredients import run_data
from fedgate.train.report.measure import by_class, sum_of
from fedgate.train.report.results import evaluate_run


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
    path = place(config)
    return Run(path, rounds, evaluate_run(path, workers))


@functools.cache
def static_of(path):
    """Test accuracy and MACs of a gated run's network with its masks fixed as its `static` program has them: to the
    channels by gated layer that all training images opened most."""
    directory, network = load_network(path)
    kept = kept_by_record(network, directory.load().salience["global"], 0)
    force(network, kept)
    found = sum_of(by_class(network, run_data(directory.info)[0], directory.info.resolved["precision"]))
    masks = fixed_masks(network.layers, kept)
    return float(found.accuracy()[0]), int(np.sum(macs.total(macs.executed(network.layers, masks))))
