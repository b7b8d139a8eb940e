"""Runs on digits with an adversary's updates in the inbox: what is believed, what is not taken, how the run goes on."""

import dataclasses
import json
import os

import numpy as np
import pytest

from fedgate.cli import main
from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.formats.update import MOST, decode_update, encode_update
from fedgate.train.config.resolve import resolve
from fedgate.train.engines.make import open_run
from fedgate.train.ingredients import describe_run, prepare
from fedgate.train.server.checkpoint import Checkpoint, write_checkpoint
from fedgate.train.server.norms import near_the_others, pool
from fedgate.train.server.run_directory import RunDirectory
from fedgate.train.server.verdict import why_not
from fedgate.train.strategies import ServerState
from fedgate.train.strategies.norms import is_statistic

SMALL = {"clients": 4, "rounds": 4, "local_epochs": 1, "width": 0.25, "partition": "iid", "precision": "fp32"}


def begin(path, **options):
    (path.parent / "in").mkdir(exist_ok=True)
    config = resolve(**SMALL | {"inbox": str(path.parent / "in")} | options)
    data, parts = prepare(config)
    directory = RunDirectory.open(path) if path.exists() else RunDirectory.create(path, describe_run(config, data))
    return open_run(directory, data, parts)


def drop(run, change, **fields):
    """Put an update into the inbox whose values are `change(name, base)`."""
    start = run.start().broadcast
    spec, base = start.spec, start.public
    update = dataclasses.replace(
        decode_update(start.blob(None), spec),
        **{"client": 0, "examples": 10, "local_steps": 1} | fields,
        values={name: np.asarray(change(name, value), np.float32) for name, value in base.items()},
    )
    blob = run.senders.key(update.client).sign(encode_update(update, spec, base))
    (run.inbox.folder / "part").write_bytes(blob)
    os.replace(run.inbox.folder / "part", run.inbox.folder / f"letter-{update.client}.safetensors")


def rows(run, round_):
    lines = [json.loads(line) for line in (run.directory.path / "metrics.jsonl").read_text().splitlines()]
    return {row["client"]: row for row in lines if row["round"] == round_}


def spoil(name, value):
    """Weights that are finite and that nothing can be computed with."""
    return np.full_like(value, 3e38) if name.endswith("weight") else value


def test_claims_are_those_of_the_partition(tmp_path):
    with begin(tmp_path / "run", density=(0.5,)) as run:
        drop(run, lambda _, value: value, examples=MOST, local_steps=MOST, samples=(MOST,))
        run.round()
        row, held = rows(run, 1)[0], len(run.parts[0])
        assert row["status"] == "used" and row["examples"] == held
        assert f"claims {MOST} examples, and {held} are counted" in row["bounded"]
        assert f"claims {MOST} local steps" in row["bounded"]
        assert all(rows(run, 1)[client]["bounded"] is None for client in (1, 2, 3))
        assert run.salience["client-0"].samples.tolist() == [held]
        assert run.salience["global"].samples.sum() == sum(map(len, run.parts))


@pytest.mark.parametrize("options", [{"algorithm": "fednova"}, {"server_optimizer": "adam"}, {"robust": "median"}])
def test_an_absurd_change_is_refused(tmp_path, options):
    with begin(tmp_path / "run", **options) as run:
        drop(run, spoil)
        run.round()
        assert rows(run, 1)[0]["status"] == "refused" and "many times as long" in rows(run, 1)[0]["reason"]
        assert len(list(run.inbox.folder.glob("refused/*/*.reason"))) == 1 and "client-0" not in run.salience
        assert {rows(run, 1)[client]["status"] for client in (1, 2, 3)} == {"used"}
        drop(run, spoil, client=2)
        run.round()
        assert {rows(run, 2)[client]["status"] for client in (0, 1, 3)} == {"used"}
        assert max(np.abs(value).max() for value in run.state.tensors.values()) < 100


def test_a_long_change_is_cut(tmp_path):
    with begin(tmp_path / "run") as run:
        run.round()
        usual = run.state.memory["typical/change"][0]
        drop(run, lambda name, value: value + 3 * usual / value.size**0.5 * (name == "head.weight"))
        run.round()
        assert rows(run, 2)[0]["status"] == "used" and "its change is too long, and 0." in rows(run, 2)[0]["bounded"]


def test_a_stranger_is_believed_up_to_four_times_what_is_usual(tmp_path):
    with begin(tmp_path / "run", density=(0.5,)) as run:
        usual = sorted(map(len, run.parts))[1]
        strong = {layer: np.full((1, c), 3e38, np.float32) for layer, c in run.start().broadcast.spec.channels.items()}
        opened = {layer: np.full((1, c), MOST, np.uint32) for layer, c in run.start().broadcast.spec.channels.items()}
        drop(run, lambda _, v: v, client=77, examples=MOST, samples=(MOST,), strength=strong, opened=opened)
        run.round()
        assert rows(run, 1)[77]["examples"] == 4 * usual
        record, honest = run.salience["client-77"], run.salience["client-1"]
        for layer in record.opened:
            assert record.opened[layer].max() == 4 * usual
            strongest = (honest.strength[layer] / honest.samples).max()
            assert (record.strength[layer] / record.samples).max() < 40 * strongest


@pytest.mark.parametrize("kind", ["median", "trimmed-mean"])
def test_robust_aggregation_takes_three_updates(tmp_path, kind, capsys):
    with begin(tmp_path / "run", robust=kind, drop_out=1.0) as run:
        before = run.state.tensors
        drop(run, spoil)
        row = run.round()
        assert f"1 good updates, and --robust {kind} takes 3" in row["reason"]
        assert run.state.tensors is before and (run.inbox.folder / "letter-0.safetensors").exists()
    with pytest.raises(SystemExit) as done:
        main(["train", "--clients", "2", "--robust", kind, "--out", str(tmp_path / "two")])
    assert done.value.code == 2 and f"--robust {kind} leaves out what lies apart" in capsys.readouterr().err


FREE = {"clip_to_median": 0.0}  # so that a lie reaches the state


def rounds_with_a_spoiled_second(path, pause, **options):
    """Four rounds, of which the second gets weights that end the network; the run is reopened after round `pause`."""
    run = begin(path, **FREE | options).__enter__()
    for number in range(1, 5):
        if number == 2:
            drop(run, spoil)
        run.round()
        if number == pause:
            run.__exit__(None)
            run = begin(path, **FREE | options).__enter__()
    run.__exit__(None)
    return run


@pytest.mark.parametrize("options", [{}, {"density": (0.5, 1.0)}], ids=["one level", "levels"])
def test_a_round_that_explodes_is_not_taken(tmp_path, options):
    (tmp_path / "a").mkdir()
    run = rounds_with_a_spoiled_second(tmp_path / "a" / "run", None, **options)
    second = rows(run, 2)
    assert "the state is kept; clients 0, 1, 2, 3 had sent updates" in second[None]["reason"]
    assert {second[client]["status"] for client in range(4)} == {"refused"}
    assert all("the round is not taken: " in second[client]["reason"] for client in range(4))
    assert second[None]["updates"] == 0 and second[None]["loss"] is None
    assert second[None]["accuracy"] == pytest.approx(rows(run, 1)[None]["accuracy"], abs=0.1)
    assert [file["file"] for file in second[None]["refused_files"]] == ["letter-0.safetensors"]
    assert {rows(run, 3)[client]["status"] for client in range(4)} == {"used"}
    assert rows(run, 4)[None]["accuracy"] > rows(run, 1)[None]["accuracy"]


@pytest.mark.parametrize("options", [{}, {"reestimate_norms": True}], ids=["as averaged", "re-estimated norms"])
def test_a_last_round_that_explodes_with_a_lossy_codec_is_not_taken(tmp_path, options):
    """What the codec makes of weights that are as large as float32 holds is more than float32 holds."""
    with begin(tmp_path / "run", **FREE, rounds=2, download_codec="int8", **options) as run:
        run.round()
        before = run.state.tensors
        drop(run, spoil)
        row = next(run.rounds())
        assert "the aggregated state cannot be sent: " in row["reason"] and row["accuracy"] > 0
        assert all(run.state.tensors[name].tobytes() == value.tobytes() for name, value in before.items())
        assert list(run.rounds()) == [] and run.directory.model_path.exists()


@pytest.mark.parametrize("pause", [1, 2, 3])
def test_a_run_with_a_round_that_was_not_taken_is_resumed_exactly(tmp_path, pause):
    for name in ("whole", "paused"):
        (tmp_path / name).mkdir()
    whole = rounds_with_a_spoiled_second(tmp_path / "whole" / "run", None, codec="int8", download_codec="int8")
    paused = rounds_with_a_spoiled_second(tmp_path / "paused" / "run", pause, codec="int8", download_codec="int8")
    assert all(whole.state.tensors[n].tobytes() == paused.state.tensors[n].tobytes() for n in whole.state.tensors)
    for number in range(1, 5):
        one, two = ([r | {"seconds": 0, "cpu_seconds": 0} for r in rows(x, number).values()] for x in (whole, paused))
        assert [{k: v for k, v in r.items() if "cpu" not in k} for r in one] == [
            {k: v for k, v in r.items() if "cpu" not in k} for r in two
        ]


def rounds_with_a_replay(path, pause):
    """Three rounds to which client 0 sends the same weights; the run is reopened after round `pause`."""
    path.parent.mkdir()
    run, first = begin(path).__enter__(), {}
    for number in range(1, 4):
        drop(run, lambda name, value: first.setdefault(name, value + np.float32(0.1) * (name == "head.weight")))
        run.round()
        if number == pause:
            run.__exit__(None)
            run = begin(path).__enter__()
    run.__exit__(None)
    return run


def test_weights_that_were_sent_before_are_refused_also_after_a_resume(tmp_path):
    runs = [rounds_with_a_replay(tmp_path / str(pause) / "run", pause) for pause in (None, 1, 2)]
    for run in runs:
        assert rows(run, 1)[0]["status"] == "used"
        for number in (2, 3):
            assert rows(run, number)[0]["status"] == "refused"
            assert "the weights that it sent before" in rows(run, number)[0]["reason"]
            assert {rows(run, number)[client]["status"] for client in (1, 2, 3)} == {"used"}
        for kind in ("tensors", "memory"):
            one, two = getattr(runs[0].state, kind), getattr(run.state, kind)
            assert one.keys() == two.keys() and all(one[name].tobytes() == two[name].tobytes() for name in one)


@pytest.mark.parametrize("options", [{}, {"density": (0.5,), "codec": "int8"}, {"algorithm": "fednova"}])
def test_a_negated_change_is_refused_and_honest_ones_are_not(tmp_path, options):
    """Client 1 trains as all do, and what it sends is its change, negated."""
    with begin(tmp_path / "run", **options) as run:
        train = run.engine.train

        def negated(tasks):
            spec, base = tasks[0].broadcast.spec, tasks[0].broadcast.public
            for result in train(tasks):
                if result.client == 1:
                    update = decode_update(result.blob, spec, base)
                    values = {
                        n: v if is_statistic(n) else 2 * spec.take({n: base[n]}, update.channels)[n] - v
                        for n, v in update.values.items()
                    }
                    blob = encode_update(dataclasses.replace(update, values=values), spec, base)
                    result = dataclasses.replace(result, blob=blob)
                yield result

        run.engine.train = negated
        for number in range(1, 5):
            run.round()
            refused = {client for client in range(4) if rows(run, number)[client]["status"] == "refused"}
            assert refused == (set() if number == 1 else {1})


def test_when_a_loss_has_exploded():
    """More than 20 times the last round's, or that of guessing among the classes; a first round is always taken."""
    calm = {"test": 0.1, "training": 0.1}
    assert why_not({"test": 1e9, "training": 1e9}, {}, 10) is None
    assert why_not({"test": 20 * np.log(10) - 0.1, "training": None}, calm, 10) is None
    assert "test loss went from 0.1 to 47" in why_not({"test": 47.0, "training": 0.1}, calm, 10)
    assert "training loss went from 0.1 to 99" in why_not({"test": 0.1, "training": 99.0}, calm, 10)
    assert "to no number" in why_not({"test": None, "training": 0.1}, calm, 10)
    assert why_not({"test": 47.0, "training": 0.1}, {"test": 3.0, "training": 0.1}, 10) is None


def test_a_state_that_is_not_finite_is_never_written(tmp_path):
    for state in (
        ServerState(1, {"w": np.float32([np.inf])}),
        ServerState(1, {}, memory={"second/w": np.array([np.nan])}),
    ):
        with pytest.raises(FedgateError, match="/w holds values that are not finite"):
            write_checkpoint(tmp_path, Checkpoint(state), {})
    assert not list(tmp_path.iterdir())


def test_pooled_norms_hold_one_liar_of_ten():
    """--reestimate-norms: nine clients measured about the same, the tenth anything."""
    rng = np.random.default_rng(0)
    honest = [
        (50, {"n.running_mean": rng.normal(3, 0.1, 4), "n.running_var": rng.uniform(1, 1.2, 4)}) for _ in range(9)
    ]
    measured = [(n, {k: v.astype(np.float32) for k, v in arrays.items()}) for n, arrays in honest]
    liar = 50, {"n.running_mean": np.full(4, 1e30, np.float32), "n.running_var": np.full(4, 3e38, np.float32)}
    model = {"n.running_mean": np.full(4, 3, np.float32), "n.running_var": np.ones(4, np.float32)}
    found = pool(near_the_others([*measured, liar], model))
    assert np.abs(found["n.running_mean"] - 3).max() < 0.5 and found["n.running_var"].max() < 3
    one, two = pool(measured), pool(near_the_others(measured, model))
    assert all(one[name].tobytes() == two[name].tobytes() for name in one)
