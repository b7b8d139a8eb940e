"""Fine-tuning in the app's core against `fedgate finetune` on the Python runtime: losses, update, faults, going on."""

import hashlib
import json
import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
from ways import EVERY_WAY

from fedgate.device_runtime.formats.bundle import load_bundle
from fedgate.device_runtime.formats.manifest import render_manifest
from fedgate.device_runtime.formats.records import LABELLED
from fedgate.device_runtime.formats.signed import unsigned
from fedgate.device_runtime.formats.tensors import pack, read_tensors, unpack
from fedgate.device_runtime.formats.update import decode_update
from fedgate.device_runtime.tuning.finetune import Watcher, finetune
from fedgate.device_runtime.tuning.model import open_tail, tuned_trunks
from fedgate.device_runtime.tuning.personal import load_personal
from fedgate.device_runtime.tuning.plan import TunePlan
from fedgate.train.engines.make import open_run
from fedgate.train.server.run_directory import RunDirectory

EPOCHS, LR = 25, 0.02  # of 4 batches: 100 steps
UPDATE = "update-client-7.safetensors"


class Losses(Watcher):
    """Each step's loss, from the sums of its epoch."""

    def __init__(self):
        self.losses, self._sum, self._samples = [], 0.0, 0

    def training(self, progress):
        state = progress.state
        if state.samples <= self._samples:
            self._sum, self._samples = 0.0, 0
        self.losses.append((state.sums[0] - self._sum) / (state.samples - self._samples))
        self._sum, self._samples = state.sums[0], state.samples


@pytest.fixture(scope="module")
def python(client, tmp_path_factory):
    """100 steps of the Python training on the same photos; its losses and results."""
    watcher, out = Losses(), tmp_path_factory.mktemp("python") / "out"
    plan = TunePlan(level=0, epochs=EPOCHS, batch_size=16, lr=LR, seed=3)
    result = finetune(client.bundle, client.photos, out, plan, None, 0.0, client=7, key=client.key, watcher=watcher)
    return SimpleNamespace(losses=watcher.losses, result=result, out=out)


@pytest.fixture(scope="module")
def tune(harness, client, tmp_path_factory):
    """A function: several fine-tunings, each (out, options) -> what the app's core answered, in one process."""
    requests = tmp_path_factory.mktemp("tune") / "requests"

    def run(*wanted):
        usual = {
            "bundle": client.bundle.path,
            "data": client.photos,
            "epochs": EPOCHS,
            "lr": LR,
            "validation": 0.0,
            "stop": 0,
            "client": client.key.text(),
        }
        lines = [json.dumps(usual | {"out": out} | options, default=str) for out, options in wanted]
        requests.write_text("\n".join(lines))
        return [json.loads(line) for line in harness.run("org.fedgate.harness.Tune", requests).splitlines()]

    return run


@pytest.fixture(scope="module")
def kotlin(tune, client, tmp_path_factory):
    """The same 100 steps in the app's core, by training module and by functional step: by name (out, answer)."""
    top = tmp_path_factory.mktemp("kotlin")
    functional = shutil.copytree(client.bundle.path, top / "functional.fedgate")
    fields = json.loads((functional / "manifest.json").read_text())
    fields["programs"] = [entry for entry in fields["programs"] if entry["role"] != "train-module"]
    (functional / "manifest.json").write_bytes(render_manifest(fields))
    answers = tune((top / "module", {}), (top / "functional", {"bundle": functional}))
    return dict(
        zip(("module", "functional"), zip((top / "module", top / "functional"), answers, strict=True), strict=True)
    )


@EVERY_WAY
@pytest.mark.parametrize("kind", ["module", "functional"])
def test_100_steps_equal_the_python_training(client, python, kotlin, kind):
    assert any(program.role == "train-module" for program in client.bundle.manifest.programs)
    out, result = kotlin[kind]
    assert len(result["losses"]) == len(python.losses) == 100
    np.testing.assert_allclose(result["losses"], python.losses, atol=1e-4, rtol=0)
    assert np.mean(python.losses[:4]) > np.mean(python.losses[-4:]) + 0.1  # they do move
    mine, theirs = (unpack((folder / "personal.safetensors").read_bytes()) for folder in (out, python.out))
    assert mine[0].keys() == theirs[0].keys()
    for name, value in theirs[0].items():
        np.testing.assert_allclose(mine[0][name], value, atol=1e-4, err_msg=name)
    head, before = client.bundle.manifest.layers[-1].name, client.bundle.tail().tensors
    for name in (f"{head}.weight", f"{head}.bias"):  # the client has images of four classes
        moved = (mine[0][name] != before[name]).reshape(10, -1).any(1)
        assert np.flatnonzero(moved).tolist() == [2, 3, 5, 7]
    ignored = {"bundle", "trunk", "personal", "update", "step_ms", "peak_rss_mb", "losses", "epochs"}
    assert {key for key in result if key != "losses"} == python.result.keys()
    for key in python.result.keys() - ignored:
        assert result[key] == python.result[key], key
    for row, expected in zip(result["epochs"], python.result["epochs"], strict=True):
        assert row == pytest.approx(expected, abs=1e-3)  # the loss on unlearned classes is large


@EVERY_WAY
def test_the_server_takes_the_update(client, python, kotlin, tmp_path):
    out, result = kotlin["module"]
    file, expected = ((folder / UPDATE).read_bytes() for folder in (out, python.out))
    assert len(file) == result["update_bytes"] and client.key.sign(unsigned(file)) == file
    blob, expected = unsigned(file), unsigned(expected)
    spec = client.bundle.tail().spec
    update, reference = decode_update(blob, spec), decode_update(expected, spec)
    assert unpack(blob)[1] == unpack(expected)[1] and len(blob) == len(expected)
    for layer in spec.channels:
        assert np.array_equal(update.channels[layer], reference.channels[layer])
        assert np.array_equal(update.opened[layer], reference.opened[layer])
        np.testing.assert_allclose(update.strength[layer], reference.strength[layer], rtol=1e-3)
    for name, value in reference.values.items():
        np.testing.assert_allclose(update.values[name], value, atol=1e-4, err_msg=name)
    copy = shutil.copytree(client.run.path, tmp_path / "run")
    shutil.rmtree(client.inbox / "used", ignore_errors=True)  # what another copy's round took, this one would take too
    shutil.copy(out / UPDATE, client.inbox / "phone.safetensors")
    with open_run(RunDirectory.open(copy), client.data, client.parts) as run:
        row = run.round()
    lines = [json.loads(line) for line in (copy / "metrics.jsonl").read_text().splitlines()]
    (mine,) = [line for line in lines if line["client"] == 7]
    assert (mine["status"], mine["reason"], mine["file"]) == ("used", None, "phone.safetensors")
    assert row["refused_files"] == []


@EVERY_WAY
def test_validation_is_pythons(tune, client, tmp_path):
    options = {"data": client.samples, "epochs": 3, "validation": 0.25}
    (result,) = tune((tmp_path / "kotlin", options))
    plan = TunePlan(level=0, epochs=3, batch_size=16, lr=LR, seed=3)
    expected = finetune(client.bundle, client.samples, tmp_path / "python", plan, validation=0.25)
    assert result["absent"] == expected["absent"] == ["0", "1", "4", "6", "8", "9"]
    assert result["notes"] == expected["notes"] and result["notes"][0].startswith("no images of 0, 1, 4")
    assert result["reference"] == expected["reference"]
    for key in ("before", "after", "best_epoch", "examples", "validation_examples", "steps"):
        assert result[key] == pytest.approx(expected[key], abs=1e-6), key
    for row, other in zip(result["epochs"], expected["epochs"], strict=True):
        assert row == pytest.approx(other, abs=1e-4)
    personal = load_personal(tmp_path / "kotlin" / "personal.safetensors", client.bundle)
    model = open_tail(client.bundle, tuned_trunks(client.bundle)[0], personal.tensors)
    assert model.run(client.bundle.reference().image[:1], 0)[0].shape == (1, 10)


def test_what_an_older_bundle_and_one_class_tell(tune, client, tmp_path):
    """No labels in the bundle, no images of most classes, and the rows of a step that a module keeps."""
    bundle, tensors = tmp_path / "older.fedgate", read_tensors(client.bundle.file("reference.safetensors"))
    shutil.copytree(client.bundle.path, bundle)
    blob = pack({name: value for name, value in tensors[0].items() if name not in LABELLED}, tensors[1])
    (bundle / "reference.safetensors").write_bytes(blob)
    fields = json.loads((bundle / "manifest.json").read_text())
    fields["files"]["reference.safetensors"] = {"sha256": hashlib.sha256(blob).hexdigest(), "bytes": len(blob)}
    (bundle / "manifest.json").write_bytes(render_manifest(fields))
    shutil.copytree(client.photos / "3", tmp_path / "one" / "3")
    options = {"bundle": bundle, "data": tmp_path / "one", "epochs": 4, "lr": 0.3, "validation": 0.2}
    (result,) = tune((tmp_path / "kotlin", options))
    plan = TunePlan(level=0, epochs=4, batch_size=16, lr=0.3, seed=3)
    expected = finetune(load_bundle(bundle), tmp_path / "one", tmp_path / "python", plan, patience=1000)
    assert result["notes"] == expected["notes"] and result["reference"] == expected["reference"]
    said = " ".join(result["notes"])
    assert "the held-out images are all of 3" in said and "these reference images have no labels" in said
    assert not result["reference"]["labelled"] and result["reference"]["before"] == 1.0
    for row, other in zip(result["epochs"], expected["epochs"], strict=True):
        assert row == pytest.approx(other, abs=1e-3)


def test_a_stopped_one_goes_on_to_the_same_bytes(tune, tmp_path):
    usual = {"epochs": 3, "validation": 0.2}
    parts = tmp_path / "parts"
    whole, *stopped, other = tune(
        (tmp_path / "whole", usual),
        *((parts, usual | {"stop": stop}) for stop in (1, 4, 2)),
        (parts, usual | {"epochs": 2}),
    )
    for answer, steps in zip(stopped, (1, 4, 2), strict=True):
        assert "was stopped; the same one goes on" in answer["message"] and len(answer["losses"]) == steps
    assert [path.name for path in parts.iterdir()] == ["work"]
    assert other["status"] == 2 and "unfinished fine-tuning of another epochs" in other["message"]
    rest, again = tune((parts, usual), (parts, usual))  # a process of its own
    assert rest["epochs"] == whole["epochs"] and len(rest["losses"]) == len(whole["losses"]) - 7
    assert sorted(path.name for path in parts.iterdir()) == ["personal.safetensors", UPDATE]
    for name in ("personal.safetensors", UPDATE):
        assert (parts / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert again["status"] == 2 and "holds a finished fine-tuning" in again["message"]


def test_what_goes_wrong_is_one_message(tune, client, tmp_path):
    def photos(name, *extra):
        folder = shutil.copytree(client.photos, tmp_path / name)
        for path in extra:
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_text("no picture at all")
        return folder

    label = sorted(path.name for path in client.photos.iterdir())[0]
    (tmp_path / "only" / label).mkdir(parents=True)
    (tmp_path / "only" / label / "note.png").write_text("no picture at all")
    (tmp_path / "broken.safetensors").write_bytes(client.samples.read_bytes()[:-1])
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine").write_text("mine")
    cases = [
        ("a", {"data": photos("photos", f"{label}/note.png")}, f"{label}/note.png; remove them"),
        ("b", {"data": photos("classes", "zebra/note.png")}, "unknown class of"),
        ("c", {"data": tmp_path / "only"}, "none of the 1 images"),
        ("d", {"data": tmp_path / "nowhere"}, "no data at"),
        ("e", {"data": tmp_path / "broken.safetensors"}, "is not a fedgate tensor file"),
        ("taken", {}, "exists and is no fine-tuning"),
        ("f", {"lr": 1e5}, "--lr 100000.0 is out of range"),
        ("h", {"stop": 3}, "was stopped"),
    ]
    for (name, _, text), found in zip(cases, tune(*((tmp_path / out, o) for out, o, _ in cases)), strict=True):
        assert found["status"] in (1, 2) and text in found["message"] and "\n" not in found["message"], name
        assert not (tmp_path / name / "personal.safetensors").exists()
    state = tmp_path / "h" / "work" / "training.safetensors"
    state.write_bytes(state.read_bytes()[:-4])
    (found,) = tune((tmp_path / "h", {}))
    assert "is not a fedgate tensor file" in found["message"]


def test_a_full_disk_is_one_message(tune, tmp_path):
    full, sizes = tmp_path / "full", ("64k", "300k")
    full.mkdir()
    for size, text in zip(sizes, ("MB are free", "the disk is full"), strict=True):
        words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(full)]
        mounted = subprocess.run(words, capture_output=True, text=True)
        if mounted.returncode != 0:
            pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
        try:
            (found,) = tune((full / "out", {"epochs": 1}))
            assert found["status"] == 1 and text in found["message"], found
        finally:
            subprocess.run(["umount", str(full)], check=True)
