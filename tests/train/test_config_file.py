"""--config, --preset and --print-config: what is printed reads back, who wins over whom, and what is refused."""

import dataclasses
import re
import tomllib

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedgate.cli import main
from fedgate.device_runtime.errors import FedgateError, UsageError
from fedgate.train.cli import train
from fedgate.train.config.file import render_options
from fedgate.train.config.presets import PRESETS
from fedgate.train.config.resolve import resolve
from fedgate.train.server.run_directory import RunDirectory, RunInfo


def printed(*arguments):
    """What `fedgate train ... --print-config` prints, and the configuration that it means, read by tomllib alone."""
    done = CliRunner().invoke(train, [*map(str, arguments), "--print-config"])
    if done.exception is not None:
        raise done.exception
    fields = {key.replace("-", "_"): value for key, value in tomllib.loads(done.output).items()}
    return done.output, resolve(**fields)


def reals(low, high):
    return st.floats(low, high, allow_subnormal=False)


names = st.text(max_size=20).filter(lambda text: not text.startswith("~"))  # what they name is looked up later
configs = st.builds(
    resolve,
    data=names,
    label=st.none() | names,
    group=st.none() | names,
    model=names,
    partition=names,
    image_size=st.none() | st.integers(1, 512),
    clients=st.integers(1, 1000),
    width=reals(0.01, 2.0),
    hidden_width=reals(0.01, 2.0),
    gate=st.sampled_from(["paper", "fbs"]),
    gated=st.sampled_from(["all", "hidden"]),
    density=st.sets(reals(0.01, 1.0), min_size=1, max_size=5).map(sorted),
    rounds=st.integers(1, 1000),
    lr=reals(1e-9, 100.0),
    lr_schedule=st.sampled_from(["cosine", "constant"]),
    weight_decay=reals(0.0, 1.0),
    momentum=reals(0.0, 0.99),
    seed=st.integers(0, 2**32 - 1),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(config=configs)
def test_what_is_printed_reads_back(config, tmp_path):
    text = render_options(config, train.params)
    (tmp_path / "run.toml").write_text(text, encoding="utf-8")
    again, read = printed("--config", tmp_path / "run.toml")
    assert (again, read) == (text, config)


@pytest.mark.parametrize("gate", ["none", "scale"])
def test_the_density_of_ungated_networks_reads_back(gate, tmp_path):
    text, config = printed("--gate", gate)
    (tmp_path / "run.toml").write_text(text)
    assert config.density == (1.0,) and printed("--config", tmp_path / "run.toml") == (text, config)


@pytest.mark.parametrize(
    "options",
    [
        ["--no-adaptive-gradient", "--codec", "int8", "--download-codec", "fp16"],
        ["--capacity", "1.0:0.25,0.5:0.75", "--uplink", "1Mbit", "--drop-out", "0.5"],
        ["--algorithm", "fedprox", "--server-optimizer", "adam", "--lr-schedule", "exponential", "--lr-decay", "0.9"],
        ["--deadline", "12.5", "--fraction-train", "0.5", "--min-clients", "3"],
    ],
)
def test_every_kind_of_option_reads_back(options, tmp_path):
    text, config = printed(*options)
    (tmp_path / "run.toml").write_text(text)
    assert printed("--config", tmp_path / "run.toml") == (text, config) != printed()


@pytest.mark.parametrize("name", PRESETS)
def test_presets_read_back_and_tell_their_difference(name, tmp_path):
    text, config = printed("--preset", name)
    assert text.startswith(f"# Preset {name}. ") and "\n# Differs: " in text
    for option, value in PRESETS[name].options.items():
        assert getattr(config, option) == (tuple(value) if isinstance(value, list) else value)
    (tmp_path / "run.toml").write_text(text)
    assert printed("--config", tmp_path / "run.toml")[1] == config
    assert config.data == "digits"  # a preset names none: the user has the data somewhere


def test_the_presets_of_the_paper():
    first = printed("--preset", "paper-v1")[1]
    assert (first.clients, first.partition, first.rounds, first.local_epochs) == (10, "dirichlet:0.1", 100, 10)
    assert (first.batch_size, first.lr, first.momentum, first.weight_decay) == (64, 0.01, 0.9, 1e-5)
    assert (first.lr_schedule, first.density, first.density_schedule) == ("constant", (0.7,), 0.0)
    second = printed("--preset", "paper-v2")[1]
    assert (second.model, second.clients, second.fraction_train) == ("resnet20", 100, 0.1)
    assert (second.partition, second.rounds, second.local_epochs) == ("dirichlet:0.5", 100, 20)
    assert (second.lr, second.lr_schedule, second.lr_decay) == (0.01, "exponential", 0.99)


def test_the_command_line_wins_over_the_file_and_the_file_over_the_preset(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('batch-size = 8\nlr = 0.5\ndensity = [0.25, 1]\nmodel = "cnn"\n')
    orders = [
        ["--config", file, "--preset", "paper-v1", "--lr", "0.25"],
        ["--lr", "0.25", "--preset", "paper-v1", "--config", file],
    ]
    for order in orders:
        config = printed(*order)[1]
        assert (config.lr, config.batch_size, config.model) == (0.25, 8, "cnn")
        assert (config.density, config.rounds, config.seed) == ((0.25, 1.0), 100, 0)
    file.write_text('preset = "paper-v1"\nlocal_epochs = 3\n')  # underscores are dashes
    assert dataclasses.astuple(printed("--config", file)[1]) == dataclasses.astuple(
        printed("--preset", "paper-v1", "--local-epochs", "3")[1]
    )
    assert printed("--config", file, "--preset", "cpu")[1].lr == printed("--preset", "cpu")[1].lr != 0.01


def test_a_run_prints_its_configuration(tmp_path):
    config = resolve(density=(0.25, 1.0), seed=9)
    resolved = {"device": "cpu", "precision": "fp32", "augment": "none"}
    data = {"name": "digits", "sha256": "", "labels": [], "shape": [1, 8, 8], "mean": [0.0], "std": [1.0]}
    RunDirectory.create(tmp_path / "run", RunInfo("a", config, resolved, data, {}))
    assert printed("--resume", tmp_path / "run")[1] == config
    with pytest.raises(UsageError, match="is a run with --seed 9; it cannot be continued with 8"):
        printed("--resume", tmp_path / "run", "--seed", "8")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("batchsize = 8", "unknown option 'batchsize'; nearest: batch-size"),
        ("learning_rate = 8", "unknown option 'learning_rate'; nearest: .*lr"),
        ("no_such_thing = 8", "unknown option 'no_such_thing'; known: see fedgate train --help"),
        ("config = 'b.toml'", "unknown option 'config'"),
        ("lr = 1\nbatch_size = 1\nbatch-size = 2", "'batch-size' is given twice"),
        ("[lr]\nvalue = 1", "'lr' is no value of an option"),
        ("density = [[0.5]]", "'density' is no value of an option"),
        ("clients = 4.5", "'4.5' is not a valid integer"),
        ("clients = true", "'True' is not a valid integer"),
        ("workers = 0", "0 is not in the range"),
        ("density = 'half'", "'half' is no list of numbers"),
        ("lr = nan", "--lr nan is out of range"),
        ("gate = 'top'", "unknown gate 'top'"),
        ("preset = 'paper'", "unknown preset 'paper'; known: paper-v1,"),
        ("lr == 1", "mine.toml is not valid TOML: .*line 1"),
        ("lr = 1\nlr = 2", "is not valid TOML"),
        ("a = " + "[" * 5000, "is not valid TOML"),
        (b"data = '\xff'", "is not valid TOML"),
    ],
)
def test_a_wrong_file_is_refused(text, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SystemExit) as caught:
        main(["train", "--config", "mine.toml", "--print-config"])
    out, err = capsys.readouterr()
    assert caught.value.code == 2 and out == "" and err.startswith("fedgate: ") and err.count("\n") == 1
    assert re.search(words, err), err


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(FedgateError, match=r"cannot read .*none\.toml: No such file"):
        printed("--config", tmp_path / "none.toml")
