"""The cohort engine in whole runs: the loop's rounds, up to the order of sums; and when it leaves them to the loop."""

import dataclasses
import json

import pytest
import torch

from fedgate.device_runtime.errors import UsageError
from fedgate.train.config.resolve import resolve
from fedgate.train.engines.cohort import KNOWN, OWN, CohortEngine
from fedgate.train.engines.make import make_engine, open_run
from fedgate.train.ingredients import describe_run, make_network, prepare
from fedgate.train.local.client import LocalPlan
from fedgate.train.network.build import network_tensors
from fedgate.train.server.run_directory import RunDirectory

CONFIG = resolve(
    density=(0.5,),
    clients=5,
    rounds=2,
    local_epochs=1,
    batch_size=64,
    lr=0.02,
    precision="fp32",
    density_schedule=0.0,
    width=0.25,
)


def run(folder, engine, workers=1, together=False, **changes):
    """A whole run; together: whether its clients have to have trained together."""
    config = dataclasses.replace(CONFIG, engine=engine, **changes)
    data, parts = prepare(config)
    directory = RunDirectory.create(folder, describe_run(config, data))
    with open_run(directory, data, parts, workers) as run:
        list(run.rounds())
        assert not together or run.engine.reason is None
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return directory.model_tensors(), lines, directory.info


@pytest.mark.parametrize(
    "changes",
    [
        {"upload_share": 0.8},
        {"density": (0.25, 1.0), "codec": "fp16", "rounds": 1, "upload": "full"},
        {"density": (0.25, 0.5, 1.0), "local_epochs": 2, "rounds": 1, "lr": 0.001},
    ],
)
def test_a_run_is_the_loops(tmp_path, changes):
    ours, lines, _ = run(tmp_path / "cohort", "cohort", together=True, **changes)
    theirs, wanted, info = run(tmp_path / "loop", "loop", **changes)
    start = network_tensors(make_network(info))
    apart = sum(((ours[name] - theirs[name]) ** 2).sum() for name in start)
    moved = sum(((start[name] - theirs[name]) ** 2).sum() for name in start)
    assert apart < 1e-4 * moved  # in float32 a close call between two channels may fall the other way
    for name in start:
        if "running" in name and "lr" in changes:
            assert abs(ours[name] - theirs[name]).max() <= 1e-2 * abs(start[name] - theirs[name]).max(), name
    for line, other in zip(lines, wanted, strict=True):
        assert (line["round"], line["client"], line["examples"]) == (other["round"], other["client"], other["examples"])
        assert line["loss"] == pytest.approx(other["loss"], rel=1e-3)


def test_a_tail_is_the_loops(tmp_path):
    run(tmp_path / "base", "loop", rounds=1)
    changes = {"trainable": "last-stage", "base": str(tmp_path / "base")}
    ours, *_ = run(tmp_path / "cohort", "cohort", together=True, **changes)
    theirs, *_ = run(tmp_path / "loop", "loop", **changes)
    start = RunDirectory.open(tmp_path / "base").model_tensors()
    assert all((ours[name] == value).all() for name, value in theirs.items() if (value == start[name]).all())
    apart = sum(((ours[name] - theirs[name]) ** 2).sum() for name in start)
    assert apart < 1e-4 * sum(((start[name] - theirs[name]) ** 2).sum() for name in start)


def test_auto_is_the_loop_without_a_gpu():
    config = dataclasses.replace(CONFIG, device="cpu")
    data, parts = prepare(config)
    info = describe_run(config, data)
    for engine, cohort in (("auto", False), ("loop", False), ("cohort", True)):
        chosen = dataclasses.replace(info, config=dataclasses.replace(config, engine=engine))
        assert isinstance(make_engine(chosen, data, parts, 1), CohortEngine) == cohort
    on_gpu = dataclasses.replace(info, resolved=info.resolved | {"device": "cuda"})
    if torch.cuda.is_available():
        assert isinstance(make_engine(on_gpu, data, parts, 1), CohortEngine)
        return
    with pytest.raises((RuntimeError, AssertionError), match=r"(?i)cuda|nvidia"):  # it would be built there
        make_engine(on_gpu, data, parts, 1)


def test_unknown_engines_and_workers_are_refused(tmp_path):
    with pytest.raises(UsageError, match="unknown engine 'grpahics'; known: auto, loop, cohort"):
        resolve(engine="grpahics")
    with pytest.raises(UsageError, match="--workers is for --engine loop"):
        run(tmp_path / "run", "cohort", workers=2)


def test_what_cannot_be_stacked_goes_to_the_loop_and_is_said_once(tmp_path, caplog):
    model = tmp_path / "own.py"
    model.write_text(
        "from torch import nn\n"
        "def make(classes, shape):\n"
        "    return nn.Sequential(nn.Conv2d(1, 8, 3, 1, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU(),\n"
        "                         nn.Dropout(0.1), nn.Flatten(), nn.Linear(8 * 64, classes))\n"
    )
    ours, *_ = run(tmp_path / "cohort", "cohort", model=f"{model}:make", width=1.0)
    assert [record.getMessage() for record in caplog.records if "one after the other" in record.getMessage()] == [
        "clients train one after the other: '4' (dropout) drops out at random, and each client draws for itself"
    ]
    theirs, *_ = run(tmp_path / "loop", "loop", model=f"{model}:make", width=1.0)
    assert all(ours[name].tobytes() == value.tobytes() for name, value in theirs.items())


def test_every_field_of_a_plan_is_known_or_sends_clients_to_the_loop():
    """A field that is added to the plan without a word here must not be ignored."""
    fields = {field.name: field for field in dataclasses.fields(LocalPlan)}
    assert fields.keys() >= KNOWN | OWN
    for name in fields.keys() - KNOWN - OWN:
        assert fields[name].default is not dataclasses.MISSING, name
