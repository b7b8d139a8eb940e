"""Lowered training programs: fifty steps of each, on each runtime, are those of local training in eager PyTorch."""

import dataclasses

import pytest
from tail_training import PLAN, check, lowered, steady, train_both, trainable
from trained import digits, image_size, trained

from fedgate.export.trainable import TRAINING_RUNTIMES
from fedgate.train.network.build import network_tensors

MODELS = ["cnn", "resnet20", "resnet32", "vgg11", "resnet18"]
WIDTHS = {"vgg11": 0.25, "resnet18": 0.25}  # the same layers in a test's time
SMALL = [("head", "none"), *(("last-stage", gate) for gate in ("paper", "fbs", "scale", "none"))]
ALL = [("cnn", part, gate) for part, gate in SMALL]
ALL += [(model, part, "paper") for model in MODELS[1:] for part in ("head", "last-stage")]
ALL += [("resnet20", "last-stage", "none")]
CASES = [
    ("cnn", "head", "paper", "litert"),
    ("cnn", "head", "paper", "module"),
    *(
        pytest.param(*case, runtime, marks=pytest.mark.slow)
        for runtime in (*TRAINING_RUNTIMES, "module")
        for case in ALL
    ),
]


@pytest.mark.parametrize("model,part_name,gate,runtime", CASES)
def test_fifty_steps_of_a_program_are_those_of_local_training(model, part_name, gate, runtime, tmp_path, monkeypatch):
    densities = (0.25, 0.5) if gate in ("paper", "fbs") else (1.0,)
    network, _ = trained(model, gate, densities, WIDTHS.get(model, 1.0))
    part = trainable(network, part_name)
    images, labels, _, statistics = digits(image_size(model))
    level = len(densities) - 1
    plan = dataclasses.replace(PLAN, densities=densities, level=level, epochs=10, **steady(model))
    start = network_tensors(part.network)
    program = lowered(part, runtime, tmp_path)
    eager, ours = train_both(part, program, images[:76], labels[:76], statistics, plan, monkeypatch)
    assert len(ours[1]) == 50
    check(part, eager, ours, start)
