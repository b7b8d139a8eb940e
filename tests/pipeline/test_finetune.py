"""Fine-tuning on the device route: images in, a personal model and an update out; and the round that takes it."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from last_stage import run_last_stage, write_images
from processes import fedgate

from fedgate.device_runtime.errors import FedgateError, UsageError
from fedgate.device_runtime.formats.bundle import load_bundle
from fedgate.device_runtime.formats.signed import derive_key
from fedgate.device_runtime.formats.tensors import pack, read_tensors, unpack
from fedgate.device_runtime.formats.update import decode_update
from fedgate.device_runtime.storage import write_file
from fedgate.device_runtime.tuning.absent import reference_set
from fedgate.device_runtime.tuning.client import TailClient
from fedgate.device_runtime.tuning.finetune import Watcher, finetune
from fedgate.device_runtime.tuning.model import open_tail, tuned_trunks
from fedgate.device_runtime.tuning.personal import load_personal
from fedgate.device_runtime.tuning.plan import TunePlan
from fedgate.device_runtime.tuning.programs import load_tail_programs
from fedgate.device_runtime.tuning.show import print_result
from fedgate.device_runtime.tuning.steps import batches
from fedgate.export import build, pipeline
from fedgate.train.data.augment import normalise
from fedgate.train.engines.make import open_run
from fedgate.train.ingredients import make_network
from fedgate.train.local import step as local_step
from fedgate.train.local.adaptive import Moves
from fedgate.train.network.build import load_tensors
from fedgate.train.server.gather import judge
from fedgate.train.server.run_directory import RunDirectory

OPTIONS = {"clients": 3, "rounds": 3, "local_epochs": 1, "partition": "iid", "batch_size": 64, "density": (0.5,)}
PLAN = TunePlan(level=0, epochs=3, batch_size=16, lr=0.05, seed=3)
COUNT = 50  # of a client's images: batches that are not whole


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A base run; a run of its last stage after one round, with an inbox; its bundle; and a client's images.

    Of the programs for inference the bundle has `dense` alone: making the others takes half a minute.
    """
    top = tmp_path_factory.mktemp("finetune")
    torch.set_num_threads(1)
    directory, data, parts = run_last_stage(top, OPTIONS)
    with pytest.MonkeyPatch.context() as patch:
        plans = build.plan_programs
        patch.setattr(build, "plan_programs", lambda *args: [plan for plan in plans(*args) if plan.role == "dense"])
        bundle = pipeline.export_run(top / "run", top / "digits.fedgate", ["litert"], trainable="last-stage")
    images, labels = write_images(top, data, parts[1], (2, 3), COUNT)
    return SimpleNamespace(top=top, run=directory, data=data, parts=parts, bundle=bundle, images=images, labels=labels)


def tuned(world, out, data="samples.safetensors", **options):
    return finetune(world.bundle, world.top / data, out, PLAN, runtime="litert", **options)


def eager(world, tensors=None):
    """The run's network in eager PyTorch, with some of its tensors replaced."""
    network = make_network(world.run.info)
    load_tensors(network, world.run.model_tensors())
    load_tensors(network, tensors or {}, partly=True)
    return network


def test_the_next_round_takes_a_devices_update(world, tmp_path):
    out = tmp_path / "tuned"
    key = tmp_path / "phone.key"
    assert fedgate("key", world.run.path, "--client", 7, "--out", key).stdout == f"{key}\n"
    options = ["--epochs", 2, "--key", key, "--codec", "int8", "--json", "--lr", 0.05]
    done = fedgate("finetune", world.bundle.path, "--data", world.top / "photos", "--out", out, *options)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["run_trains_it"]
    assert result["after"] > result["before"] and 50 < result["peak_rss_mb"] < 1000
    assert sorted(path.name for path in out.iterdir()) == ["personal.safetensors", "update-client-7.safetensors"]
    copy = shutil.copytree(world.run.path, tmp_path / "run")
    shutil.copy(result["update"], world.top / "inbox" / "phone.safetensors")
    with open_run(RunDirectory.open(copy), world.data, world.parts) as run:
        row = run.round()
        record = run.salience["client-7"]
    lines = [json.loads(line) for line in (copy / "metrics.jsonl").read_text().splitlines()]
    (mine,) = [line for line in lines if line["client"] == 7]
    assert (mine["status"], mine["reason"], mine["file"]) == ("used", None, "phone.safetensors")
    assert mine["bytes_up"] == result["update_bytes"] and mine["examples"] == result["examples"]
    assert row["refused_files"] == [] and record.samples.tolist() == [result["examples"]]
    # of a trunk's layer too the record says how often each channel was open, and how far from what the bundle knows
    trunk = next(layer.name for layer in world.bundle.manifest.layers if layer.gate)
    assert record.opened[trunk].max() == result["examples"] and record.strength[trunk].max() > 0


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


def test_steps_equal_eager_training(world, tmp_path):
    tuned(world, tmp_path / "out", validation=0)
    personal = load_personal(tmp_path / "out" / "personal.safetensors", world.bundle)
    network = eager(world).train()
    parameters = {name: p for name, p in network.body.named_parameters() if p.requires_grad}
    rates, momenta = local_step.Rates(PLAN.lr, PLAN.momentum, PLAN.weight_decay, PLAN.clip_norm), {}
    moves, head = Moves(network, PLAN.momentum), world.bundle.manifest.layers[-1].name
    logits = [p for name, p in network.body.named_parameters() if name.startswith(head)]
    absent, kept = np.setdiff1d(np.arange(10), world.labels), [p.detach().clone() for p in logits]
    images = normalise(torch.from_numpy(world.images), world.data.mean, world.data.std)
    for epoch in range(PLAN.epochs):
        for rows in batches(np.arange(COUNT), PLAN.batch_size, PLAN.seed, epoch):
            moves.before()
            loss = F.cross_entropy(network(images[rows]), torch.from_numpy(world.labels[rows]))
            network.zero_grad()
            loss.backward()
            with torch.no_grad():
                grads = {name: p.grad for name, p in parameters.items()}
                after, momenta = local_step.step(parameters, grads, momenta, moves.after(PLAN.lr), rates)
                for name, p in parameters.items():
                    p.copy_(after[name])
            for p, own in zip(logits, kept, strict=True):  # a step reads no other row of it, nor of its momentum
                p.data[absent] = own[absent]
    state, before = network.body.state_dict(), world.bundle.tail().tensors
    assert personal.steps == 3 * 4 and personal.examples == COUNT
    for name, value in personal.tensors.items():
        np.testing.assert_allclose(value, state[name].numpy(), rtol=0, atol=1e-5, err_msg=name)
    assert any((value != before[name]).any() for name, value in personal.tensors.items())
    spec = world.bundle.tail().spec
    update = decode_update((tmp_path / "out" / "update-client-0.safetensors").read_bytes(), spec)
    for layer, channels in update.channels.items():
        assert channels.tolist() == np.flatnonzero(moves.touched[layer].numpy()).tolist()


def test_the_tuned_model_equals_eager(world, tmp_path, need_kernel):
    need_kernel()
    tuned(world, tmp_path / "out")
    personal = load_personal(tmp_path / "out" / "personal.safetensors", world.bundle)
    network = eager(world, personal.tensors).eval()
    images = normalise(world.data.test_images[:40], world.data.mean, world.data.std)
    with torch.no_grad():
        expected, masks = network(images).numpy(), network.open().numpy()
    trunks = tuned_trunks(world.bundle)
    assert [trunk.needs_kernel for trunk in trunks] == [True, False]
    for trunk in trunks:
        model = open_tail(world.bundle, trunk, personal.tensors)
        for image, logits, mask in zip(images.numpy(), expected, masks, strict=True):
            found, opened, _ = model.run(image[None], 0)
            np.testing.assert_allclose(found[0], logits, rtol=0, atol=1e-4 * np.abs(expected).max())
            assert np.array_equal(opened[0], mask)


def outputs(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


class Interrupting(Watcher):
    """Stops at an image or at a step."""

    def __init__(self, image=None, step=None):
        self.left, self.step = image, step

    def image(self):
        self.left = None if self.left is None else self.left - 1
        if self.left == 0:
            raise KeyboardInterrupt

    def training(self, progress):
        if progress.state.steps == self.step:
            raise KeyboardInterrupt


def test_an_interrupted_one_ends_with_the_same_bytes(world, tmp_path):
    tuned(world, tmp_path / "whole")
    for watcher in (Interrupting(image=20), Interrupting(step=1), Interrupting(step=5)):
        with pytest.raises(KeyboardInterrupt):
            tuned(world, tmp_path / "parts", watcher=watcher)
    assert (tmp_path / "parts" / "work").is_dir()
    steps = []
    watcher = Watcher()
    watcher.training = lambda progress: steps.append(progress.state.steps)
    tuned(world, tmp_path / "parts", watcher=watcher)
    assert steps[0] == 6 and outputs(tmp_path / "parts") == outputs(tmp_path / "whole")


KILLED = """
import os, signal, sys
from pathlib import Path
from fedgate.device_runtime.formats.bundle import load_bundle
from fedgate.device_runtime.tuning import finetune, training
from fedgate.device_runtime.tuning.plan import TunePlan

class Killer(finetune.Watcher):
    def training(self, progress):
        if progress.state.steps == 5:
            os.kill(os.getpid(), signal.SIGKILL)

training.SAVE_SECONDS = 0.0
bundle, data, out = map(Path, sys.argv[1:])
plan = TunePlan(level=0, epochs=3, batch_size=16, lr=0.05, seed=3)
finetune.finetune(load_bundle(bundle), data, out, plan, runtime="litert", watcher=Killer())
"""


def test_a_killed_one_too(world, tmp_path):
    tuned(world, tmp_path / "whole")
    command = [sys.executable, "-c", KILLED, world.bundle.path, world.top / "samples.safetensors", tmp_path / "parts"]
    assert subprocess.run([*map(str, command)]).returncode == -9
    steps, watcher = [], Watcher()
    watcher.training = lambda progress: steps.append(progress.state.steps)
    tuned(world, tmp_path / "parts", watcher=watcher)
    assert steps[0] > 1 and outputs(tmp_path / "parts") == outputs(tmp_path / "whole")


def test_one_that_was_killed_while_it_tidied_up(world, tmp_path):
    """Its results are there, and what it kept meanwhile is too: whole, or out of the way to be removed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "rename", lambda *_: os.rename("/nowhere", "/nowhere"))
        tuned(world, tmp_path / "out")
    first = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file()}
    assert len(first) == 2 and (tmp_path / "out" / "work").is_dir()
    tuned(world, tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == first
    (tmp_path / "out" / ".work.part").mkdir()
    with pytest.raises(UsageError, match="finished fine-tuning: choose another --out"):
        tuned(world, tmp_path / "out")
    assert len(os.listdir(tmp_path / "out")) == 2


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


def test_it_says_that_a_run_of_the_whole_network_takes_no_update_of_a_tail(world, tmp_path, capsys):
    manifest = world.bundle.manifest
    whole = dataclasses.replace(manifest, training=manifest.training | {"trainable": "all"})
    result = tuned(
        SimpleNamespace(bundle=dataclasses.replace(world.bundle, manifest=whole), top=world.top), tmp_path / "out"
    )
    print_result(result)
    assert "takes no such update" in capsys.readouterr().out.replace("\n", " ")


def test_a_diverging_training_is_said(world, tmp_path):
    wild = TunePlan(level=0, lr=1000.0, clip_norm=0.0, epochs=50)
    with pytest.raises(FedgateError, match=r"the training diverged in step .*lower --lr"):
        finetune(world.bundle, world.top / "samples.safetensors", tmp_path / "out", wild, runtime="litert")


def test_early_stopping_keeps_the_best_epoch(world, tmp_path):
    plan = TunePlan(level=0, lr=0.3, epochs=40, seed=1)
    result = finetune(world.bundle, world.top / "samples.safetensors", tmp_path / "out", plan, "litert", patience=2)
    losses = [row["validation_loss"] for row in result["epochs"]]
    best = int(np.argmin(losses))
    assert len(losses) == best + 1 + 2 < 40 and result["best_epoch"] == best + 1
    personal = load_personal(tmp_path / "out" / "personal.safetensors", world.bundle)
    assert personal.epochs == best + 1 and personal.after == result["epochs"][best]["validation_accuracy"]


@pytest.fixture(scope="module")
def personal_file(world):
    tuned(world, world.top / "tuned")
    return world.top / "tuned" / "personal.safetensors"


def test_predict_and_verify_with_a_personal_model(world, personal_file, refused):
    photo = next((world.top / "photos" / "2").iterdir())
    done = fedgate("predict", world.bundle.path, photo, "--personal", personal_file, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["role"] in ("tuned skip", "tuned masked") and found["images"][0]["class"] == "2"
    width = sum(layer.out_channels for layer in world.bundle.manifest.layers if layer.gate)
    assert sum(layer["channels"] for layer in found["images"][0]["layers"]) == width
    done = fedgate("verify", world.bundle.path, "--personal", personal_file, "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["programs"]
    assert {row["status"] for row in rows} == {"ok"} and {"tuned masked"} <= {row["role"] for row in rows}
    status, line = refused("predict", world.bundle.path, photo, "--personal", personal_file, "--role", "static")
    assert status == 2 and "a personal model runs as skip or masked" in line
    status, line = refused("predict", world.bundle.path, photo, "--personal", personal_file, "--density", "1")
    assert status == 2 and "trained at density 0.5" in line


def test_a_personal_model_of_another_bundle(world, personal_file, tmp_path):
    tensors, meta = read_tensors(personal_file)
    for change, reason in (
        ({"bundle": "0" * 64}, "another bundle"),
        ({"format": "fedgate-tail"}, "'format'"),
        ({"version": 2}, "'version'"),
        ({"level": 1}, "'level'"),
        ({"after": 1.5}, "'after'"),
    ):
        (tmp_path / "p.safetensors").write_bytes(pack(tensors, meta | change))
        with pytest.raises(FedgateError, match=reason):
            load_personal(tmp_path / "p.safetensors", world.bundle)
    name = next(iter(tensors))
    for change, reason in (
        ({name: tensors[name][:1]}, "finite float32"),
        ({name: tensors[name] + np.inf}, "finite float32"),
        ({name: tensors[name].astype(np.float64)}, "finite float32"),
        ({"more": tensors[name]}, "unknown tensor 'more'"),
    ):
        (tmp_path / "p.safetensors").write_bytes(pack(tensors | change, meta))
        with pytest.raises(FedgateError, match=reason):
            load_personal(tmp_path / "p.safetensors", world.bundle)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_personal_file_does_worse_than_a_refusal(world, personal_file, tmp_path, data):
    blob = bytearray(personal_file.read_bytes())
    header = 8 + int.from_bytes(blob[:8], "little")
    for _ in range(data.draw(st.integers(1, 4))):
        blob[data.draw(st.integers(0, min(header + 40, len(blob) - 1)))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        blob = blob[: data.draw(st.integers(0, len(blob)))]
    (tmp_path / "p.safetensors").write_bytes(bytes(blob))
    try:
        personal = load_personal(tmp_path / "p.safetensors", world.bundle)
    except FedgateError as error:
        assert str(error).isprintable()
    else:
        assert all(np.isfinite(value).all() for value in personal.tensors.values())


def sent_plan(run, client, **changes):
    """What a server would send of its plan for a client."""
    fields = vars(run.plan(client)) | changes
    return json.loads(json.dumps(fields))


def test_a_client_without_torch_takes_part_in_rounds(world, tmp_path):
    """Two rounds over the protocol of `train`'s clients, with a lossy codec: what was lost is kept for the next."""
    copy = shutil.copytree(world.run.path, tmp_path / "run")
    bundle = load_bundle(world.bundle.path)
    state, held = {}, None
    with (
        open_run(RunDirectory.open(copy), world.data, world.parts) as run,
        TailClient(bundle, world.top / "samples.safetensors", tmp_path / "features", "litert") as client,
    ):
        assert client.prepare() == []
        for round_ in (1, 2):
            broadcast = run.broadcast()
            download = broadcast.blob(None if held is None else run.state.round - 1)
            plan = sent_plan(run, 2, codec="int8", batch_size=16, epochs=2)
            result = client.train(2, download, held, plan, state)
            update, reason = judge(result.blob, broadcast.spec, broadcast.public)
            assert reason is None and update.client == 2 and update.examples == COUNT == result.examples
            assert update.local_steps == result.steps == 8 and update.samples == (COUNT,)
            assert result.state["held/round"].tolist() == [round_]
            lost = {name for name, value in result.state.items() if name.startswith("error/") and value.any()}
            assert lost and {name.removeprefix("error/") for name in lost} <= broadcast.spec.parameters.keys()
            assert all(np.array_equal(result.held[name], broadcast.public[name]) for name in broadcast.spec.parameters)
            state, held = result.state, result.held
            if round_ == 1:
                run.round()
        with pytest.raises(FedgateError, match="'algorithm'"):
            client.train(2, download, held, plan | {"algorithm": "scaffold"}, state)
        with pytest.raises(FedgateError, match="not a fedgate tensor file"):
            client.train(2, download[:100], held, plan, state)
    assert unpack(result.blob)[1]["base_hash"] != world.bundle.tail().spec.base_hash


def one_class(world, tmp_path, name="2"):
    """A folder with the images of one class, and an empty one of another."""
    (tmp_path / "one" / "5").mkdir(parents=True)
    shutil.copytree(world.top / "photos" / name, tmp_path / "one" / name)
    return tmp_path / "one"


def test_classes_without_images_keep_their_logits_parameters(world, tmp_path):
    """Weight decay and momentum would move them too; the update says nothing of them, and the rest does move."""
    out = tmp_path / "out"
    result = finetune(world.bundle, one_class(world, tmp_path), out, PLAN, "litert", validation=0.25)
    others = [label for label in world.bundle.manifest.labels if label != "2"]
    assert result["absent"] == result["unseen"] == others
    personal = load_personal(out / "personal.safetensors", world.bundle)
    update = decode_update((out / "update-client-0.safetensors").read_bytes(), world.bundle.tail().spec)
    head, before = world.bundle.manifest.layers[-1].name, world.bundle.tail().tensors
    for name in (f"{head}.weight", f"{head}.bias"):
        moved = (personal.tensors[name] != before[name]).reshape(10, -1).any(1)
        assert np.flatnonzero(moved).tolist() == [2]
        sent = update.values[name].reshape(10, -1)
        kept = [np.isin(sent[row], before[name][row]).all() for row in range(10)]
        assert all(kept[:2]) and all(kept[3:])


def test_it_is_judged_on_the_bundles_images_of_the_others_too(world, tmp_path, capsys):
    reference = world.bundle.reference()
    assert np.bincount(reference.labels).tolist() == [6] * 10
    wild = TunePlan(level=0, epochs=12, lr=0.2, seed=1)
    data = one_class(world, tmp_path)
    result = finetune(world.bundle, data, tmp_path / "last", wild, "litert", validation=0.25, patience=20)
    both = [(row["validation_loss"] + row["reference_loss"]) / 2 for row in result["epochs"]]
    assert [row["judged_loss"] for row in result["epochs"]] == pytest.approx(both)
    assert result["best_epoch"] == int(np.argmin(both)) + 1
    found = result["reference"]
    assert (found["images"], found["classes"], found["labelled"]) == (54, 9, True)
    personal = load_personal(tmp_path / "last" / "personal.safetensors", world.bundle)
    images = normalise(torch.from_numpy(reference.labelled), world.data.mean, world.data.std)
    with torch.no_grad():
        for when, tensors in (("before", {}), ("after", personal.tensors)):
            right = eager(world, tensors).eval()(images).argmax(1).numpy() == reference.labels
            assert found[when] == pytest.approx(right[reference.labels != 2].mean(), abs=0.02)
    print_result(result)
    said = capsys.readouterr().out
    assert "no images of 0, 1, 3, 4, 5, 6, 7, 8, 9: their logits' parameters stay" in said
    assert "the held-out images are all of 2" in said
    assert f"of the classes absent here (54 images): {found['before']:.1%} before, {found['after']:.1%} after" in said
    assert ("warning: the training unlearned" in said) == (found["before"] - found["after"] > 0.1)


def test_an_interrupted_one_without_some_classes_ends_with_the_same_bytes(world, tmp_path):
    data = one_class(world, tmp_path)
    finetune(world.bundle, data, tmp_path / "whole", PLAN, "litert")
    for step in (1, 3):
        with pytest.raises(KeyboardInterrupt):
            finetune(world.bundle, data, tmp_path / "parts", PLAN, "litert", watcher=Interrupting(step=step))
    finetune(world.bundle, data, tmp_path / "parts", PLAN, "litert")
    assert outputs(tmp_path / "parts") == outputs(tmp_path / "whole")


def test_an_older_bundle_judges_by_what_the_untuned_network_says(world, tmp_path):
    older = SimpleNamespace(**vars(world.bundle.reference()) | {"labelled": None, "labels": None})
    programs, start = load_tail_programs(world.bundle, "litert"), world.bundle.tail().tensors
    names = world.bundle.tail().spec.parameters
    found = reference_set(
        SimpleNamespace(manifest=world.bundle.manifest, reference=lambda: older),
        programs,
        {name: start[name] for name in names},
        np.arange(10),
        0,
    )
    with torch.no_grad():
        answers = eager(world).eval()(torch.from_numpy(older.image)).argmax(1).tolist()
    assert found.labels.tolist() == answers and not found.labelled
