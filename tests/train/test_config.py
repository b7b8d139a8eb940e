import dataclasses
import json
import re

import numpy as np
import pytest

from fedgate.device_runtime.errors import FedgateError, UsageError
from fedgate.device_runtime.formats.tensors import read_tensors, write_tensors
from fedgate.train.cli import train
from fedgate.train.config import TrainConfig
from fedgate.train.config.declare import declared
from fedgate.train.config.resolve import read_config, resolve
from fedgate.train.network.gates import GATED
from fedgate.train.server.checkpoint import Checkpoint
from fedgate.train.server.run_directory import FACTS, RunDirectory, RunInfo
from fedgate.train.strategies import ServerState
from fedgate.train.strategies.fedopt import LEARNING_RATES


def as_shown(default):
    """A default as the help shows it."""
    if isinstance(default, bool):
        return "on" if default else "off"
    return str(default[0]) if isinstance(default, tuple) else str(default)


def test_every_option_has_a_field_and_its_help_the_default():
    fields = {field.name: field.default for field in dataclasses.fields(TrainConfig)}
    options = {option.name: option for option in train.params}
    here = {"config", "preset", "print_config", "out", "resume", "until", "workers", "quiet"}
    here |= {"superlink", "ca", "insecure", "node_patience", "node_timeout"}
    assert set(fields) == set(options) - here
    for name, default in fields.items():
        shown = re.search(r"\[([^\]]*)\]$", options[name].help)
        if default is None:
            assert shown is None
        else:
            assert shown.group(1) == as_shown(default), name


def test_the_choices_are_those_that_the_code_knows():
    choices = {name: about.choices for name, (_, about) in declared(TrainConfig).items()}
    assert choices["gated"] == tuple(GATED)
    assert choices["server_optimizer"] == tuple(LEARNING_RATES)


def test_a_configuration_round_trips():
    config = resolve(model="resnet20", density=(0.25, 1.0), seed=3)
    assert read_config(config.to_json()) == config
    assert config.to_json() == read_config(config.to_json()).to_json()


def test_paths_are_made_absolute_and_names_are_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    assert resolve(data="pictures").data == str(tmp_path / "pictures")
    assert resolve(model="net.py:make").model == str(tmp_path / "net.py:make")
    assert resolve(data="uoft-cs/cifar10").data == "uoft-cs/cifar10"
    assert resolve().data == "digits"


def test_gate_and_density_follow_from_each_other():
    for given, gate, density in [
        ({}, "none", (1.0,)),
        ({"density": (0.25,)}, "paper", (0.25,)),
        ({"density": (1.0,)}, "paper", (1.0,)),
        ({"capacity": "1.0:0.5,0.4:0.5"}, "paper", (0.4, 1.0)),
        ({"gate": "fbs"}, "fbs", (0.5,)),
        ({"gate": "none"}, "none", (1.0,)),
        ({"gate": "scale"}, "scale", (1.0,)),
    ]:
        config = resolve(**given)
        assert (config.gate, config.density) == (gate, density)
        assert read_config(config.to_json()) == config


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"gate": "none", "density": (0.25,)}, "closes no channel"),
        ({"density": (0.0,)}, "density 0 is out of range"),
        ({"rounds": 0}, "--rounds 0 is out of range"),
        ({"width": 1e6}, "--width 1000000.0 is out of range: 0.001 to 16.0"),
        ({"hidden_width": 0.0}, "--hidden-width 0.0 is out of range: 0.001 to 4.0"),
        ({"gate": "none", "gated": "hidden"}, "--gated is of networks with gates"),
        ({"lr": -1.0}, "--lr -1.0 is out of range"),
        ({"lr": float("nan")}, "--lr nan is out of range"),
        ({"local_epochs": 0}, "--local-epochs 0"),
        ({"precision": "fp8"}, "unknown precision 'fp8'; known: auto, fp32, bf16"),
        ({"lr_decay": 1.5, "lr_schedule": "exponential"}, "--lr-decay 1.5 is out of range"),
        ({"lr_decay": 0.9}, "--lr-decay is of --lr-schedule exponential"),
        ({"lr_schedule": "step"}, "unknown learning-rate schedule 'step'"),
        ({"augment": "mixup"}, "unknown augmentation 'mixup'"),
        ({"algorithm": "fedsgd"}, "unknown algorithm 'fedsgd'; known: fedavg, fedprox, fednova, scaffold"),
        ({"server_optimizer": "sgd"}, "unknown server optimizer 'sgd'"),
        ({"robust": "krum"}, "unknown robust aggregation 'krum'"),
        ({"proximal_mu": 0.1}, "--proximal-mu is of --algorithm fedprox"),
        ({"server_momentum": 0.5}, "--server-momentum is of --server-optimizer"),
        ({"robust": "median", "algorithm": "scaffold"}, "cannot protect --algorithm scaffold"),
        ({"robust": "median", "algorithm": "fednova"}, "cannot protect --algorithm fednova"),
        ({"trainable": "tail"}, "unknown trainable part 'tail'; known: all, head, last-stage"),
        ({"trainable": "head"}, "needs the run that its trunk comes from: --base RUN"),
        ({"trainable": "head", "base": "x", "reestimate_norms": True}, "keeps norm statistics"),
        ({"inbox": "in", "algorithm": "scaffold"}, "have no control variates"),
    ],
)
def test_bad_values_are_refused(fields, words):
    with pytest.raises(UsageError, match=words):
        resolve(**fields)


@pytest.mark.parametrize("text", ["", "[]", '{"data": 1}', "null", '{"rounds": "x"}'])
def test_damaged_configurations_are_refused(text):
    with pytest.raises(UsageError):
        read_config(text)
    whole = json.loads(resolve().to_json())
    with pytest.raises(UsageError, match="unknown_option"):
        read_config(json.dumps(whole | {"unknown_option": 1}))


def test_options_that_a_text_does_not_know_yet_have_their_defaults():
    config = resolve(model="resnet20", rounds=3)
    older = {name: value for name, value in json.loads(config.to_json()).items() if name not in ("robust", "inbox")}
    assert read_config(json.dumps(older)) == config


def test_a_run_that_knew_fewer_options_is_opened(tmp_path):
    """Its checkpoints hold the same configuration, and are still told from those of another run."""
    config = resolve(rounds=3)
    facts = {key: dict.fromkeys(names, "") for key, names in FACTS.items()}
    made = RunDirectory.create(tmp_path / "run", RunInfo("name", config, *facts.values()))
    made.save(Checkpoint(ServerState(1, {"w": np.zeros(2, np.float32)}), progress={}))
    document = json.loads((made.path / "config.json").read_text())
    state = made.checkpoints()[0][1] / "state.safetensors"
    arrays, meta = read_tensors(state)
    for name in ("robust", "clip_update"):
        del document["config"][name]
        meta["config"] = json.dumps({k: v for k, v in json.loads(meta["config"]).items() if k != name})
    write_tensors(state, arrays, meta)
    (made.path / "config.json").write_text(json.dumps(document))
    found = RunDirectory.open(made.path)
    assert found.info.config == config and found.load().state.round == 1
    document["config"]["rounds"] = 4
    (made.path / "config.json").write_text(json.dumps(document))
    with pytest.raises(FedgateError, match="belongs to another run"):
        RunDirectory.open(made.path).load()
    document["config"]["later"] = 4
    (made.path / "config.json").write_text(json.dumps(document))
    with pytest.raises(FedgateError, match="unknown options: later"):
        RunDirectory.open(made.path)
