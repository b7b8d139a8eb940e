"""A tail trained on a frozen trunk."""

import json

import pytest

from fedgate.device_runtime.errors import FedgateError, UsageError
from fedgate.device_runtime.formats.macs import Layer
from fedgate.train.commands import resolve_config, run_training
from fedgate.train.network.build import build_network
from fedgate.train.network.tails import trunk
from fedgate.train.server.run_directory import RunDirectory
from fedgate.train.strategies.norms import is_statistic

SMALL = {"clients": 3, "rounds": 2, "local_epochs": 1, "batch_size": 128, "partition": "iid", "density": (0.5,)}


def test_trunks_of_the_models():
    resnet = build_network("resnet20", "paper", (0.5,), 10, (3, 32, 32))
    assert trunk(resnet.layers, "head") == {layer.name for layer in resnet.layers} - {"head"}
    stage = {layer.name for layer in resnet.layers} - trunk(resnet.layers, "last-stage")
    assert stage == {f"stages.2.{i}.conv{j}" for i in range(3) for j in (1, 2)} | {"head"}
    assert trunk(resnet.layers, "all") == set()
    conv = Layer("conv", "conv", 3, 8, (3, 3), (8, 8))
    with pytest.raises(UsageError, match="no linear layer"):
        trunk([conv], "head")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return run_training(tmp_path_factory.mktemp("runs") / "base", None, quiet=True, options=SMALL)


@pytest.mark.parametrize("trainable, trained", [("head", ("head",)), ("last-stage", ("features.7", "head"))])
def test_the_trunk_stays_bit_for_bit_and_does_not_travel(base, tmp_path, trainable, trained):
    options = SMALL | {"trainable": trainable, "base": str(base), "rounds": 2}
    run = run_training(tmp_path / "run", None, workers=2, quiet=True, options=options)
    before, after = (RunDirectory.open(path).model_tensors() for path in (base, run))
    for name, value in before.items():
        moves = name.startswith(trained) and not is_statistic(name)
        assert (after[name].tobytes() != value.tobytes()) == moves, name
    rows, whole = (
        [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()] for path in (run, base)
    )
    sent = 4 * sum(value.size for name, value in before.items() if name.startswith(trained))
    for row, full in zip(rows, whole, strict=True):
        if row["client"] is not None:
            for key in ("bytes_up", "bytes_down"):
                assert row[key] < full[key] and row[key] <= sent + 4000  # the rest: header, salience, channels
    losses = [row["loss"] for row in rows if row["client"] is None]
    assert losses[1] < losses[0]


def test_a_run_has_the_network_of_its_base_where_it_says_nothing_else(base):
    plain = {"trainable": "head", "base": str(base), "rounds": 7}
    config = resolve_config(options=plain)
    assert (config.gate, config.density, config.model, config.rounds) == ("paper", (0.5,), "cnn", 7)
    assert resolve_config(options=plain | {"density": (0.25,)}).density == (0.25,)


def test_a_base_of_another_network_is_refused(base, tmp_path):
    with pytest.raises(FedgateError, match="of another network"):
        run_training(tmp_path / "run", None, quiet=True, options=SMALL | {"model": "resnet20", "base": str(base)})
    with pytest.raises(FedgateError, match="of another network"):
        run_training(tmp_path / "run", None, quiet=True, options=SMALL | {"width": 0.5, "base": str(base)})
    assert not (tmp_path / "run").exists()
