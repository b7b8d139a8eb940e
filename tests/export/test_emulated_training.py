"""Fifty steps of a LiteRT training program on an emulated Cortex-A72 are those of local training in eager PyTorch."""

import dataclasses
import json
import os

import numpy as np
import pytest
from emulation import CONSTRAINTS, emulated
from tail_training import PLAN, check, lowered, steady, train_both, trainable
from trained import digits, image_size, trained

from fedgate.device_runtime.targets.emulated.emulator import own_package
from fedgate.device_runtime.targets.emulated.root import open_emulator
from fedgate.train.network.build import network_tensors

# A state and what else each step takes -> the losses, what opened in the last five steps, and the last state.
LOOP = """
import json, sys
import numpy as np
from fedgate.device_runtime.targets.emulated.guest import load

inputs, outputs = json.loads(sys.argv[2])
interpreter, places, results = load(sys.argv[1], None)
given = dict(np.load("given.npz"))
state = {name: given.pop(name) for name in inputs if name in outputs}
losses, opened = [], []
for step in range(len(given["labels"])):
    values = state | {name: array[step] for name, array in given.items()}
    for index, name in enumerate(inputs):
        interpreter.set_tensor(places[f"args_{index}"], values[name])
    interpreter.invoke()
    found = {name: interpreter.get_tensor(results[f"output_{index}"]) for index, name in enumerate(outputs)}
    state = {name: found[name] for name in state}
    losses.append(found["loss"][0])
    opened.append(found.get("opened", 0.0))
np.savez("found.npz", **state, losses=losses, opened=opened)
"""


class Recorder:
    """A program that keeps what it was given."""

    def __init__(self, program):
        self.program, self.given = program.program, []
        self.call = lambda values: self.given.append(values) or program.call(values)


@emulated
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("model,part_name", [("cnn", "head"), ("cnn", "last-stage"), ("resnet20", "last-stage")])
def test_fifty_steps_on_an_emulated_processor(model, part_name, tmp_path, monkeypatch):
    monkeypatch.setitem(os.environ, "PIP_CONSTRAINT", str(CONSTRAINTS))
    emulator = open_emulator("cortex-a72")
    network, _ = trained(model, "paper", (0.25, 0.5), 1.0)
    part = trainable(network, part_name)
    images, labels, _, statistics = digits(image_size(model))
    plan = dataclasses.replace(PLAN, densities=(0.25, 0.5), level=1, epochs=10, **steady(model))
    start = network_tensors(part.network)
    recorder = Recorder(lowered(part, "litert", tmp_path))
    eager, here = train_both(part, recorder, images[:76], labels[:76], statistics, plan, monkeypatch)

    ports = [[port.name for port in side] for side in (recorder.program.inputs, recorder.program.outputs)]
    state = {name: recorder.given[0][name] for name in ports[0] if name in ports[1]}
    steps = {name: np.stack([given[name] for given in recorder.given]) for name in ports[0] if name not in state}
    np.savez(tmp_path / "given.npz", **state, **steps)
    with own_package() as package:
        variables = {"PYTHONPATH": str(package)}
        done = emulator.run("-c", LOOP, recorder.program.file, json.dumps(ports), variables=variables, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = dict(np.load(tmp_path / "found.npz"))
    losses, opened = found.pop("losses"), found.pop("opened")[-5:].sum(0)  # an epoch has five steps
    assert len(losses) == 50
    check(part, eager, (found, list(losses), opened), start)
    assert np.abs(losses - here[1]).max() <= 1e-5
