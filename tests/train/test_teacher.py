"""Distillation: the loss by hand, one teacher for all engines, its bytes once a client, and what no teacher can be."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from whole_rounds import SMALL

from fedgate.cli import main
from fedgate.device_runtime.errors import UsageError
from fedgate.device_runtime.formats.tensors import read_tensors
from fedgate.train.commands import run_training
from fedgate.train.local.teacher import Teacher, distilled
from fedgate.train.network.build import build_network

OPTIONS = SMALL | {"rounds": 2, "density": (1.0,), "gate": "none", "device": "cpu"}


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """A trained run, to learn from."""
    path = tmp_path_factory.mktemp("teacher") / "big"
    run_training(path, None, quiet=True, options=OPTIONS | {"rounds": 3})
    return path


def train(path, big, **options):
    run_training(path, None, quiet=True, options=OPTIONS | {"width": 0.25, "teacher": str(big)} | options)
    return path


def rows(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def tensors(path):
    return read_tensors(path / "model.safetensors")[0]


def test_the_loss_is_hintons():
    draw = torch.Generator().manual_seed(0)
    logits, taught = (3 * torch.randn(5, 7, generator=draw) for _ in range(2))
    labels = torch.tensor([0, 3, 6, 1, 1])
    loss = F.cross_entropy(logits, labels, reduction="none")
    found = distilled(loss, logits, taught, 0.7, 4.0)
    for i in range(5):
        p, q = (torch.exp(each[i].double() / 4) for each in (taught, logits))
        p, q = p / p.sum(), q / q.sum()
        by_hand = 0.3 * -torch.log_softmax(logits[i].double(), 0)[labels[i]] + 0.7 * 16 * (p * (p / q).log()).sum()
        assert float(found[i]) == pytest.approx(float(by_hand), rel=1e-5)
    assert torch.equal(distilled(loss, logits, taught, 0.0, 4.0), loss)
    torch.testing.assert_close(distilled(loss, taught, taught, 1.0, 2.0), torch.zeros(5), atol=1e-6, rtol=0)


def test_a_teacher_sees_images_as_it_was_trained_on_them():
    network = build_network("cnn", "none", (1.0,), 10, (3, 8, 8))
    pixels = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    ours, theirs = ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7)), ((0.4, 0.5, 0.6), (0.2, 0.3, 0.4))

    def normalised(statistics):
        mean, std = (torch.tensor(each).view(-1, 1, 1) for each in statistics)
        return (pixels - mean) / std

    with torch.no_grad():
        expected = network.eval()(normalised(theirs))
    torch.testing.assert_close(Teacher(network, theirs, ours)(normalised(ours)), expected)
    torch.testing.assert_close(Teacher(network, theirs, theirs)(normalised(theirs)), expected)


def test_every_engine_and_number_of_workers_distils_alike(big, tmp_path):
    one = tensors(train(tmp_path / "one", big, engine="loop"))
    run_training(
        tmp_path / "two",
        None,
        workers=2,
        quiet=True,
        options=OPTIONS | {"width": 0.25, "teacher": str(big), "engine": "loop"},
    )
    two, stack = tensors(tmp_path / "two"), tensors(train(tmp_path / "stack", big, engine="cohort"))
    plain = tensors(train(tmp_path / "plain", big, engine="loop", distill=0.0))
    for name in one:
        assert np.array_equal(one[name], two[name])
        np.testing.assert_allclose(one[name], stack[name], rtol=1e-3, atol=1e-4)
    assert any(np.abs(one[name] - plain[name]).max() > 1e-3 for name in one)


def test_the_dial_learns_from_labels_teacher_and_its_highest_level(big, tmp_path):
    options = {"gate": "paper", "density": (0.5, 1.0), "width": 1.0}
    loop = tensors(train(tmp_path / "loop", big, engine="loop", **options))
    stack = tensors(train(tmp_path / "stack", big, engine="cohort", **options))
    for name in loop:
        np.testing.assert_allclose(loop[name], stack[name], rtol=2e-3, atol=5e-4)


def test_a_teachers_bytes_are_counted_once_a_client(big, tmp_path):
    with_teacher = rows(train(tmp_path / "with", big, fraction_train=0.5))
    run_training(tmp_path / "without", None, quiet=True, options=OPTIONS | {"width": 0.25, "fraction_train": 0.5})
    resolved = json.loads((tmp_path / "with" / "config.json").read_text())["resolved"]
    seen = set()
    for mine, other in zip(with_teacher, rows(tmp_path / "without"), strict=True):
        assert mine["client"] == other["client"]
        if mine["client"] is not None:
            new = 0 if mine["client"] in seen else resolved["teacher"]["bytes"]
            assert mine["bytes_down"] == other["bytes_down"] + new
            assert mine["simulated_seconds"] > other["simulated_seconds"]
            seen.add(mine["client"])
    assert resolved["teacher"]["bytes"] > 4 * sum(value.size for value in tensors(big).values())


def test_a_resumed_run_counts_on(big, tmp_path):
    train(tmp_path / "whole", big, fraction_train=0.5)
    options = OPTIONS | {"width": 0.25, "teacher": str(big), "fraction_train": 0.5}
    run_training(tmp_path / "halves", None, quiet=True, options=options, until=1)
    run_training(None, tmp_path / "halves", quiet=True)
    down = [[row["bytes_down"] for row in rows(tmp_path / name)] for name in ("whole", "halves")]
    assert down[0] == down[1]


def fedgate(capsys, *words):
    with pytest.raises(SystemExit) as done:
        main(list(map(str, words)))
    return done.value.code, capsys.readouterr().err


def test_what_no_teacher_can_be_is_told_in_one_line(big, tmp_path, capsys):
    out = ("--out", tmp_path / "run", "--quiet")
    for words, reason in (
        (("--teacher", tmp_path / "nowhere"), "nowhere"),
        (("--distill", 0.5), "--distill goes with --teacher RUN"),
        (("--teacher", big, "--distill", 1.5), "out of range"),
        (("--teacher", big, "--engine", "flower"), "has no way to send it"),
    ):
        status, text = fedgate(capsys, "train", *words, *out)
        assert status in (1, 2) and reason in text and text.count("\n") == 1, text
    assert not (tmp_path / "run").exists()


def test_a_teacher_that_changed_is_refused(big, tmp_path):
    options = OPTIONS | {"width": 0.25, "teacher": str(tmp_path / "big")}
    run_training(tmp_path / "big", None, quiet=True, options=OPTIONS | {"rounds": 1})
    run_training(tmp_path / "run", None, quiet=True, options=options, until=1)
    blob = (big / "model.safetensors").read_bytes()
    (tmp_path / "big" / "model.safetensors").write_bytes(blob)
    with pytest.raises(UsageError, match="is not the network any more"):
        run_training(None, tmp_path / "run", quiet=True)
