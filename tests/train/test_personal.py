"""What a run's evaluation says of its clients, against plain loops over the run's own files."""

import copy
import json

import numpy as np
import pytest
import torch

from fedgate.cli import main
from fedgate.device_runtime.formats.tensors import read_tensors
from fedgate.train.data.augment import normalise
from fedgate.train.ingredients import make_network, prepare
from fedgate.train.local.client import train_locally
from fedgate.train.network.build import load_tensors
from fedgate.train.report.personal import MOST_A_CLASS, finetune_plan, own_test_images, trained_images, worst_decile
from fedgate.train.report.results import evaluate_run
from fedgate.train.server.run_directory import RunDirectory


def command(*arguments):
    with pytest.raises(SystemExit) as done:
        main([str(argument) for argument in arguments])
    return done.value.code


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose ten clients hold three classes each, at two densities."""
    path = tmp_path_factory.mktemp("personal") / "run"
    options = ["--rounds", 3, "--clients", 10, "--partition", "classes:3", "--density", "0.5,1.0"]
    options += ["--precision", "fp32"]  # batches of bfloat16 round otherwise than single images
    assert not command("train", *options, "--local-epochs", 1, "--quiet", "--out", path)
    return path


@pytest.fixture(scope="module")
def result(run):
    return evaluate_run(run, finetune_epochs=2, finetune_lr=0.05)


@torch.no_grad()
def accuracy(network, level, images, labels, data):
    """By class, image by image: {class: accuracy}."""
    network.eval()
    network.level = level
    hits = {}
    for image, label in zip(normalise(images, data.mean, data.std), labels.tolist(), strict=True):
        hits.setdefault(label, []).append(network(image[None]).argmax().item() == label)
    return {label: np.mean(found) for label, found in hits.items()}


def trained_network(directory):
    network = make_network(directory.info).to(memory_format=torch.channels_last)
    load_tensors(network, read_tensors(directory.model_path)[0])
    return network


def test_fine_tuning_is_local_training_from_the_global_model(run, result):
    directory = RunDirectory.open(run)
    data, parts = prepare(directory.info.config)
    assert result["finetune_epochs"] == 2 and result["finetune_lr"] == 0.05
    for client in (0, 7):
        network = trained_network(directory)
        shares = np.bincount(data.train_labels[parts[client]], minlength=10) / len(parts[client])
        plan = finetune_plan(directory.info, client, 2, 0.05)
        chosen = torch.from_numpy(parts[client])
        tuned = copy.deepcopy(network)
        train_locally(tuned, data.train_images[chosen], data.train_labels[chosen], (data.mean, data.std), plan)
        for when, judged in (("before", network), ("after", tuned)):
            for i, level in enumerate(result["levels"]):
                by_class = accuracy(judged, i, data.test_images, data.test_labels, data)
                expected = sum(share * by_class[label] for label, share in enumerate(shares))
                assert level["finetuned"][when]["by_client"][client] == pytest.approx(expected, abs=0.01)
    chosen = trained_images(parts, len(data.test_labels), directory.info.config.seed)
    network = trained_network(directory)
    for i, level in enumerate(result["levels"]):
        by_class = accuracy(network, i, data.train_images[chosen], data.train_labels[chosen], data)
        for client in (0, 7):
            shares = np.bincount(data.train_labels[parts[client]], minlength=10) / len(parts[client])
            expected = sum(share * by_class[label] for label, share in enumerate(shares))
            assert level["train_by_client"][client] == pytest.approx(expected, abs=0.01)
    for level in result["levels"]:
        # digits has fewer test images of a class than are drawn at most, so both judge on all of them
        np.testing.assert_allclose(level["finetuned"]["before"]["by_client"], level["by_client"])
        assert np.mean(level["finetuned"]["after"]["by_client"]) > np.mean(level["by_client"])


def test_a_run_is_left_as_it_was(run):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    first, second = (evaluate_run(run, finetune_epochs=1) for _ in range(2))
    assert first == second and first["finetune_lr"] == pytest.approx(0.01)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_numbers(run):
    assert evaluate_run(run, 1, finetune_epochs=1) == evaluate_run(run, 2, finetune_epochs=1)


def test_the_gap_is_between_training_and_test_images(run, result):
    directory = RunDirectory.open(run)
    data, parts = prepare(directory.info.config)
    chosen = torch.from_numpy(trained_images(parts, len(data.test_labels), directory.info.config.seed))
    network = trained_network(directory)
    assert result["train_images"] == len(chosen) == len(data.test_labels)
    for i, level in enumerate(result["levels"]):
        by_class = accuracy(network, i, data.train_images[chosen], data.train_labels[chosen], data)
        counts = np.bincount(data.train_labels[chosen], minlength=10)
        expected = sum(by_class[label] * counts[label] for label in range(10)) / len(chosen)
        assert level["train_accuracy"] == pytest.approx(expected, abs=0.005)
        assert level["train_test_gap"] == pytest.approx(level["train_accuracy"] - level["accuracy"])
        assert 0 < level["calibration_error"] < 1


def test_worst_decile():
    rows = np.array([np.arange(25) / 100, np.arange(25)[::-1] / 50])
    np.testing.assert_allclose(worst_decile(rows), [0.01, 0.02])  # of 25 clients the three lowest
    np.testing.assert_allclose(worst_decile(rows[:, :4]), [0.0, 0.42])  # of four the lowest one


def test_clients_are_judged_on_the_classes_that_they_hold():
    labels = np.random.default_rng(0).integers(0, 4, 3000)
    one = own_test_images(np.array([5, 0, 1, 0]), labels, seed=1)
    assert np.bincount(labels[one], minlength=4).tolist() == [MOST_A_CLASS, 0, MOST_A_CLASS, 0]
    other = own_test_images(np.array([0, 9, 7, 0]), labels, seed=1)
    assert set(one[labels[one] == 2]) == set(other[labels[other] == 2])  # of a class all get the same ones
    assert len(set(one)) == len(one) and one.tolist() == sorted(one)
    assert one.tolist() != own_test_images(np.array([5, 0, 1, 0]), labels, seed=2).tolist()


def test_training_images_are_some_that_clients_hold():
    parts = [np.array([4, 9]), np.array([1, 7, 30])]
    assert trained_images(parts, 99, seed=0).tolist() == [1, 4, 7, 9, 30]
    some = trained_images(parts, 3, seed=0)
    assert len(set(some)) == 3 and set(some) <= {1, 4, 7, 9, 30}


def test_the_command(run, capsys):
    assert not command("evaluate", run, "--finetune-epochs", 1, "--json")
    result = json.loads(capsys.readouterr().out)
    assert len(result["levels"][1]["finetuned"]["after"]["by_client"]) == 10
    assert not command("evaluate", run)
    shown = capsys.readouterr().out
    assert "worst decile" in shown and "calibration error" in shown and "fine-tuned" not in shown
    assert command("evaluate", run, "--finetune-lr", "0.1") == 2
    assert "--finetune-lr goes with --finetune-epochs" in capsys.readouterr().err
