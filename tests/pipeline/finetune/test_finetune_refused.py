"""What fine-tuning cannot do is told in one line: wrong requests, images, keys and folders."""

import json
import os
import shutil

import pytest
from processes import fedgate
from tuned_world import COUNT, Interrupting, tuned

from fedgate.device_runtime.errors import FedgateError, UsageError
from fedgate.device_runtime.formats.signed import derive_key
from fedgate.device_runtime.storage import write_file
from fedgate.device_runtime.tuning.finetune import finetune
from fedgate.device_runtime.tuning.plan import TunePlan


def test_wrong_requests(world, bundle, tmp_path, refused):
    photos = world.top / "photos"
    for arguments, reason in (
        ((bundle, "--data", photos), "nothing to train: export it with --trainable"),
        ((world.bundle.path, "--data", tmp_path), "holds no images by class"),
        ((world.bundle.path, "--data", tmp_path / "nowhere"), "does not exist"),
        ((world.bundle.path, "--data", photos, "--runtime", "onnx"), "no trunk and tail and train programs for onnx"),
        (
            (world.bundle.path, "--data", photos, "--runtime", "tensorrt"),
            "unknown runtime 'tensorrt'; known:",
        ),
        ((world.bundle.path, "--data", photos, "--batch-size", "17"), "train at once: 16"),
        ((world.bundle.path, "--data", photos, "--density", "0.3"), "no density 0.3"),
        ((world.bundle.path, "--data", photos, "--lr", "0"), "--lr 0.0 is out of range"),
        ((world.bundle.path, "--data", photos, "--validation", "1"), "--validation 1.0 is out of range: 0 to 0.9"),
        ((world.bundle.path, "--data", photos, "--codec", "zip"), "unknown codec 'zip'"),
    ):
        status, line = refused("finetune", *arguments, "--out", tmp_path / "out")
        assert status in (1, 2) and reason in line, line
    assert not (tmp_path / "out" / "personal.safetensors").exists()


def test_images_that_cannot_be_read(world, tmp_path, refused):
    photos = shutil.copytree(world.top / "photos", tmp_path / "photos")
    spoilt = sorted(photos.rglob("*.png"))[:7]
    for index, path in enumerate(spoilt):
        path.write_bytes(path.read_bytes()[: 9 * index])
    command = ["finetune", world.bundle.path, "--data", photos, "--out", tmp_path / "out", "--epochs", "1"]
    status, line = refused(*command)
    assert status == 1 and f"7 of the {COUNT} images of {photos} cannot be read: 2/" in line
    assert all(str(path.relative_to(photos)) in line for path in spoilt)
    assert line.rstrip().endswith("; remove them, or leave them out with --skip-unreadable")
    done = fedgate(*command, "--skip-unreadable", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["unreadable"] == [str(path.relative_to(photos)) for path in spoilt]
    assert result["examples"] + result["validation_examples"] == COUNT - 7
    for path in photos.rglob("*.png"):
        path.write_bytes(b"")
    status, line = refused(*command[:4], "--data", photos, "--out", tmp_path / "none", "--skip-unreadable")
    assert status == 1 and f"none of the {COUNT} images" in line


def test_a_key_of_another_client_or_run_is_refused(world, tmp_path):
    for name, run, said in (
        ("client", world.run.info.run, "--client 3, and the --key is of client 7"),
        ("run", "other", f"the --key is of run other, and the bundle of run {world.run.info.run}"),
    ):
        write_file(tmp_path / name, derive_key(bytes(32), run, 7).text().encode(), 0o600)
        client = 3 if name == "client" else 7
        words = [
            "--data",
            world.top / "photos",
            "--out",
            tmp_path / "out",
            "--client",
            client,
            "--key",
            tmp_path / name,
        ]
        done = fedgate("finetune", world.bundle.path, *words)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1) and said in done.stderr, done.stderr
        assert not (tmp_path / "out").exists()


def test_folders_that_are_taken(world, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        tuned(world, tmp_path / "out", watcher=Interrupting(step=2))
    with pytest.raises(UsageError, match="unfinished fine-tuning of another client"):
        tuned(world, tmp_path / "out", client=1)
    tuned(world, tmp_path / "out")
    with pytest.raises(UsageError, match="finished fine-tuning: choose another --out"):
        tuned(world, tmp_path / "out")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="no fine-tuning: choose another"):
        tuned(world, tmp_path / "other")
    assert os.listdir(tmp_path / "other") == ["thesis.txt"]


def test_a_diverging_training_is_said(world, tmp_path):
    wild = TunePlan(level=0, lr=1000.0, clip_norm=0.0, epochs=50)
    with pytest.raises(FedgateError, match=r"the training diverged in step .*lower --lr"):
        finetune(world.bundle, world.top / "samples.safetensors", tmp_path / "out", wild, runtime="litert")
