"""Runs with each algorithm: none diverges, and each can be interrupted."""

import json

import pytest

from fedgate.device_runtime.formats.tensors import read_tensors
from fedgate.train.commands import run_training
from fedgate.train.config.resolve import resolve
from fedgate.train.engines.make import open_run
from fedgate.train.ingredients import describe_run, prepare
from fedgate.train.server.run_directory import RunDirectory

ALGORITHMS = {
    "fedavg": {},
    "fedprox": {"algorithm": "fedprox"},
    "fednova": {"algorithm": "fednova"},
    "scaffold": {"algorithm": "scaffold"},
    "momentum": {"server_optimizer": "momentum"},
    "adam": {"server_optimizer": "adam"},
    "median": {"robust": "median"},
    "clipped": {"clip_update": 2.0},
}
SMALL = {"clients": 3, "rounds": 3, "local_epochs": 1, "batch_size": 128, "density": (0.5, 1.0), "precision": "fp32"}


@pytest.mark.parametrize("name", ["scaffold", pytest.param("adam", marks=pytest.mark.slow)])
def test_a_run_taken_up_after_a_round_ends_with_the_same_bytes(tmp_path, name, capfd):
    """Also with another number of workers: what the server and its clients remember is in the checkpoint."""
    config = resolve(**SMALL, **ALGORITHMS[name])
    data, parts = prepare(config)
    whole, halves = (RunDirectory.create(tmp_path / each, describe_run(config, data)) for each in ("whole", "halves"))
    with open_run(whole, data, parts) as run:
        list(run.rounds())
    with open_run(halves, data, parts, workers=2) as run:
        assert len(list(run.rounds(until=1))) == 1
    assert not halves.model_path.exists()
    # with fp32 downloads a checkpoint need not hold the clients' weights beside the server's
    assert not any(
        key.startswith("public/") for key in read_tensors(halves.checkpoints()[0][1] / "state.safetensors")[0]
    )
    with open_run(halves, data, parts) as run:
        assert run.state.round == 1 and run.state.memory
    run_training(None, halves.path, until=2)
    assert f"stopped after round 2 of 3; continue with: fedgate train --resume {halves.path}" in capfd.readouterr().err
    with open_run(halves, data, parts) as run:
        list(run.rounds())
    assert whole.model_path.read_bytes() == halves.model_path.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("name", ALGORITHMS)
def test_thirty_rounds_with_gates_at_density_one_half(tmp_path, name):
    run_training(tmp_path / "run", None, quiet=True, options={"rounds": 30, "density": (0.5,), **ALGORITHMS[name]})
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    rounds = [line for line in lines if line["client"] is None]
    assert len(rounds) == 30 and rounds[-1]["density"] == [0.5]
    assert rounds[-1]["accuracy"] >= 0.9 and rounds[-1]["loss"] <= 0.5
