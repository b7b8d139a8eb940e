"""Cascades of runs: thresholds as from all held-out images together, judged by hand; runs that do not go together."""

import json

import numpy as np
import pytest
import torch
from whole_rounds import SMALL

from fedgate.cli import main
from fedgate.device_runtime.cascades.counts import count
from fedgate.device_runtime.cascades.points import pick
from fedgate.device_runtime.cascades.scores import scores
from fedgate.train.commands import run_training
from fedgate.train.data.augment import normalise
from fedgate.train.ingredients import client_images, make_network, run_data
from fedgate.train.report.cascade import evaluate_cascade
from fedgate.train.server.run_directory import RunDirectory

PLAIN = SMALL | {"rounds": 4, "holdout": 0.2, "gate": "none", "density": (1.0,), "device": "cpu"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """By name: a big, a small and a tiny network of the same data, one with a dial, and some that do not go along."""
    top = tmp_path_factory.mktemp("cascade")
    dial = {"gate": "paper", "density": (0.3, 0.6, 0.8, 1.0), "rounds": 1}
    chosen = {
        "big": {},
        "small": {"width": 0.25},
        "tiny": {"width": 0.1},
        "dial": dial,
        "other-seed": {"width": 0.25, "seed": 1, "rounds": 1},
        "other-share": {"width": 0.25, "holdout": 0.3, "rounds": 1},
        "other-inputs": {"width": 0.25, "normalise": "0.5/0.5", "rounds": 1},
        "nothing-held-out": {"holdout": 0.0, "rounds": 1},
    }
    for name, options in chosen.items():
        run_training(top / name, None, quiet=True, options=PLAIN | options)
    return {name: top / name for name in chosen}


def logits_of(path, images):
    """By the network of a run, image for image at once."""
    directory = RunDirectory.open(path)
    network = make_network(directory.info, tensors=directory.model_tensors()).eval()
    with torch.no_grad():
        return network(normalise(images, directory.info.data["mean"], directory.info.data["std"])).numpy()


@pytest.mark.parametrize("smalls", [("small",), ("small", "tiny")])
@pytest.mark.parametrize("kind", ["probability", "margin"])
def test_clients_counts_give_the_thresholds_that_all_images_give(runs, smalls, kind):
    found = evaluate_cascade(runs["big"], [runs[name] for name in smalls], kind)
    names = [*sorted(smalls, key=["tiny", "small"].index), "big"]
    assert [stage["name"] for stage in found["stages"]] == [str(runs[name]) for name in names]
    data, _ = run_data(RunDirectory.open(runs["big"]).info)
    held = np.concatenate(client_images(RunDirectory.open(runs["big"]).info.config, data)[1])
    logits = [logits_of(runs[name], data.train_images[held]) for name in names]
    costs = [stage["macs"] for stage in found["stages"]]
    points = pick(count(logits, data.train_labels.numpy()[held], kind), costs, (0.0, 0.005, 0.01))
    assert [tuple(point["thresholds"]) for point in found["points"]] == [point.thresholds for point in points]
    assert found["held_out"] == len(held) and found["few"]


def test_the_test_images_judge_as_by_hand(runs):
    found = evaluate_cascade(runs["big"], [runs["small"]])
    data, _ = run_data(RunDirectory.open(runs["big"]).info)
    small, big = (logits_of(runs[name], data.test_images) for name in ("small", "big"))
    truth, macs = data.test_labels.numpy(), [stage["macs"] for stage in found["stages"]]
    for point in found["points"]:
        sure = scores(small) >= np.float32(point["thresholds"][0])
        answer = np.where(sure, small.argmax(1), big.argmax(1))
        assert point["accuracy"] == pytest.approx((answer == truth).mean())
        assert point["lost"] == pytest.approx((big.argmax(1) == truth).mean() - (answer == truth).mean())
        assert point["answered"] == pytest.approx([sure.mean(), 1 - sure.mean()])
        assert point["macs"] == pytest.approx(macs[0] + (1 - sure.mean()) * macs[1])
        assert point["macs_ratio"] == pytest.approx(point["macs"] / macs[1])


def test_levels_of_one_network_are_stages(runs):
    found = evaluate_cascade(runs["dial"], "levels")
    assert [stage["name"] for stage in found["stages"]] == ["density 0.3", "density 0.6", "density 1"]
    macs = [stage["macs"] for stage in found["stages"]]
    assert macs == sorted(macs) and macs[0] < 0.5 * macs[-1]


def fedgate(capsys, *words):
    with pytest.raises(SystemExit) as done:
        main(["evaluate", *map(str, words)])
    output = capsys.readouterr()
    return done.value.code, output.out, output.err


def test_the_command_prints_tables_and_json(runs, capsys):
    status, text, _ = fedgate(capsys, runs["big"], "--cascade", runs["small"])
    assert not status and "may lose" in text and "are few" in text
    status, text, _ = fedgate(capsys, runs["big"], "--cascade", runs["small"], "--losses", "2", "--json")
    assert not status and [point["loss"] for point in json.loads(text)["points"]] == [0.02]


@pytest.mark.parametrize(
    ("run", "cascade", "words", "reason"),
    [
        ("big", "other-seed", (), "have other --seed"),
        ("big", "other-share", (), "have other --holdout"),
        ("big", "other-inputs", (), "their inputs are normalised otherwise"),
        ("big", "big", (), "names a run twice"),
        ("big", "nowhere", (), "nowhere"),
        ("big", "levels", (), "takes several"),
        ("nothing-held-out", "levels", (), "takes several"),
        ("big", "small", ("--score", "entropy"), "known: probability, margin"),
        ("big", "small", ("--losses", "-1"), "no points of accuracy"),
        ("big", "small", ("--losses", "a"), "no points of accuracy"),
        ("big", "small", ("--finetune-epochs", "1"), "two evaluations"),
    ],
)
def test_what_makes_no_cascade_is_told_in_one_line(runs, capsys, run, cascade, words, reason):
    status, _, text = fedgate(capsys, runs[run], "--cascade", runs.get(cascade, cascade), *words)
    assert status in (1, 2) and reason in text and text.count("\n") == 1, text


def test_an_empty_hold_out_is_told(runs, tmp_path, capsys):
    run_training(tmp_path / "small", None, quiet=True, options=PLAIN | {"holdout": 0.0, "rounds": 1, "width": 0.25})
    status, _, text = fedgate(capsys, runs["nothing-held-out"], "--cascade", tmp_path / "small")
    assert status == 2 and "holds out no images" in text


def test_runs_of_other_data_make_no_cascade(runs, tmp_path, capsys):
    from PIL import Image

    for label in "0123456789":
        for i in range(6):
            (tmp_path / "data" / label).mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), 10 * i).save(tmp_path / "data" / label / f"{i}.png")
    run_training(
        tmp_path / "run", None, quiet=True, options=PLAIN | {"rounds": 1, "width": 0.25, "data": str(tmp_path / "data")}
    )
    status, _, text = fedgate(capsys, runs["big"], "--cascade", tmp_path / "run")
    assert status == 2 and "make no cascade" in text and text.count("\n") == 1
