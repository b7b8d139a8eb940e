"""What is wrong ends as one clear line on stderr: status 2 for a wrong request, 1 for what failed."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image
from processes import COMMAND, ENVIRONMENT, SMALL, fedgate, rows

from fedgate.cli import main
from fedgate.device_runtime.formats.manifest import render_manifest

USAGE = {
    "frobnicate": "unknown command 'frobnicate'; known: demo, train,",
    "--frobnicate": "No such option '--frobnicate'",
    "train --frobnicate": "No such option '--frobnicate'",
    "train": "either --out RUN for a new run or --resume RUN",
    "train --out a --resume b": "either --out RUN for a new run or --resume RUN",
    "train --out a --model lenet": "unknown model 'lenet'; known: cnn, resnet20,",
    "train --out a --model mine.py:net": "mine.py is no Python file",
    "train --out a --data mnist": "no data 'mnist': it is neither a known name nor a folder; known: 'digits'",
    "train --out a --data ./missing": "missing': it is neither a known name nor a folder",
    "train --out a --gate top": "unknown gate 'top'; known: paper, fbs, scale, none",
    "train --out a --partition skewed": "unknown partition 'skewed'; known: iid, dirichlet:ALPHA,",
    "train --out a --partition dirichlet:-1": "ALPHA must be a number above 0",
    "train --out a --density 0": "density 0 is out of range: a density is more than 0 and at most 1",
    "train --out a --density 1.2": "density 1.2 is out of range",
    "train --out a --density nan": "density nan is out of range",
    "train --out a --density half": "'half' is no list of numbers such as 0.25,0.5,1.0",
    "train --out a --density 0.5,0.5": "densities must increase",
    "train --out a --capacity 0.5": "--capacity '0.5' is no list of DENSITY:SHARE such as",
    "train --out a --capacity 0.5:1 --density 0.25,1": "unknown density of --capacity '0.5'; known: 0.25, 1",
    "train --out a --fraction-train 2": "--fraction-train 2.0 is out of range: 0.0 to 1.0",
    "train --out a --min-clients 9": "--min-clients 9 is out of range: 1 to 8",
    "train --out a --deadline 0": "--deadline 0.0 is out of range",
    "train --out a --wait-for 0": "--wait-for 0 is out of range: 1 to 8",
    "train --out a --uplink fast": "'fast' is no speed of a link such as 10Mbit; units: bit, kbit,",
    "train --out a --speed-spread wide": "--speed-spread 'wide' is neither a deviation from 0 to 5",
    "train --out a --drop-out 0.7 --garbage 0.7": "--drop-out and --garbage are shares of all clients",
    "train --out a --rounds 0": "--rounds 0 is out of range: 1 to",
    "train --out a --clients many": "Invalid value for '--clients': 'many' is not a valid integer",
    "train --out a --device tpu": "device 'tpu' cannot be used here",
    "evaluate": "Missing argument 'RUN'",
    "export RUN --out a.fedgate --to tensorrt": "unknown runtime 'tensorrt'; known: executorch, litert, onnx",
    "export RUN --out a.fedgate --to ,": "no runtime to export to; known: executorch, litert, onnx",
    "verify BUNDLE --runtime tensorrt": "unknown runtime 'tensorrt'; known: executorch, litert, onnx",
    "bench BUNDLE --runtime tensorrt": "unknown runtime 'tensorrt'; known: executorch, litert, onnx",
    "bench BUNDLE --runtime litert": "has no litert program; it has: onnx dense",
    "train --out RUN": "exists: continue it with --resume",
    "train --out .": "exists and is no run: choose another --out",
    "export RUN --out BUNDLE": "exists: choose another --out, or replace it with --overwrite",
    "train --out a --clients 2 --rounds 1 --inbox-unsigned": "--inbox-unsigned goes with --inbox DIR",
    "train --resume RUN --lr 0.2": "is a run with --lr 0.1; it cannot be continued with 0.2",
    "train --resume RUN --density 0.25,0.5": "is a run with --density 0.5; it cannot be continued with 0.25,0.5",
}
FAILURES = {
    "train --resume missing": "missing is no run directory: no such folder",
    "train --resume .": ". is no run directory: it has no config.json",
    "train --out a --clients 2 --rounds 1 --inbox nowhere": "nowhere: no such folder",
    "evaluate missing": "missing is no run directory: no such folder",
    "export missing --out a.fedgate": "missing is no run directory: no such folder",
    "inspect missing": "missing is not a bundle: no such folder",
    "verify RUN": "is not a bundle: it has no manifest.json",
}


@pytest.mark.parametrize("command", USAGE)
def test_usage(refused, here, undisturbed, bundle, command):
    status, line = refused(*filled(command, undisturbed, bundle))
    assert status == 2 and USAGE[command] in line
    assert os.listdir(here) == []


@pytest.mark.parametrize("command", FAILURES)
def test_failures(refused, here, undisturbed, bundle, command):
    status, line = refused(*filled(command, undisturbed, bundle))
    assert status == 1 and FAILURES[command] in line
    assert os.listdir(here) == []


def filled(command, undisturbed, bundle):
    places = {"RUN": undisturbed.path, "BUNDLE": bundle}
    return [places.get(word, word) for word in command.split()]


def test_as_a_process(tmp_path):
    done = fedgate("train", "--out", tmp_path / "run", "--density", "1.2")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "fedgate: density 1.2 is out of range: a density is more than 0 and at most 1\n"
    done = fedgate()
    assert (done.returncode, done.stderr) == (0, "") and "Usage: fedgate" in done.stdout
    done = fedgate("--debug", "inspect", tmp_path / "none.fedgate")
    assert done.returncode == 1 and "Traceback" in done.stderr


def test_a_truncated_parquet_file(refused, here):
    (here / "data").mkdir()
    table = pyarrow.table({"image": [bytes(200)] * 50, "label": list(range(50))})
    path = here / "data" / "train-00000-of-00001.parquet"
    pyarrow.parquet.write_table(table, path)
    path.write_bytes(path.read_bytes()[:-100])
    status, line = refused("train", "--data", "data", "--out", "run")
    assert status == 1 and "data" in line and "arquet" in line and not (here / "run").exists()


# Bundles


def test_a_bundle_with_one_byte_changed(refused, bundle, tmp_path):
    copy = shutil.copytree(bundle, tmp_path / "copy.fedgate")
    for path in sorted(copy.iterdir()):
        before = path.read_bytes()
        path.write_bytes(
            before[: len(before) // 2] + bytes([before[len(before) // 2] ^ 1]) + before[len(before) // 2 + 1 :]
        )
        for command in ("inspect", "verify"):
            status, line = refused(command, copy)
            assert status == 1 and path.name in line
        path.write_bytes(before)


def test_a_manifest_that_leads_out_of_the_bundle(refused, bundle, tmp_path):
    copy = shutil.copytree(bundle, tmp_path / "copy.fedgate")
    fields = json.loads((copy / "manifest.json").read_bytes())
    fields["programs"][0]["file"] = "../../etc/passwd"
    (copy / "manifest.json").write_bytes(render_manifest(fields))
    status, line = refused("verify", copy)
    assert status == 1 and "'../../etc/passwd', which is outside the bundle" in line


def test_an_image_that_is_none(refused, bundle, here):
    (here / "text.png").write_text("not a picture")
    (here / "empty.png").write_bytes(b"")
    noise = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    Image.fromarray(noise).save(here / "cut.png")
    (here / "cut.png").write_bytes((here / "cut.png").read_bytes()[:500])
    for name in ("text.png", "empty.png", "cut.png", "missing.png"):
        status, line = refused("predict", bundle, name)
        assert status == 1 and f"cannot read the picture {name}: " in line
    status, line = refused("predict", bundle, ".")  # all of them
    assert status == 1 and "cannot read the picture cut.png: " in line and "(and 2 more)" in line


# Run directories


@pytest.fixture
def run(undisturbed, tmp_path):
    """A copy of the run, as it was before its model was written."""
    copy = shutil.copytree(undisturbed.path, tmp_path / "copy")
    (copy / "model.safetensors").unlink()
    return copy


def changed_config(**changes):
    def change(text):
        document = json.loads(text)
        document.update({key: value for key, value in changes.items() if key != "config"})
        document["config"].update(changes.get("config", {}))
        return json.dumps(document)

    return change


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: text.replace('"rounds"', '"sounds"'),
        changed_config(version=2),
        changed_config(resolved=None),
        changed_config(data={"name": "digits"}),
        changed_config(config={"clients": 4.5}),
        changed_config(config={"density": "0.5"}),
        changed_config(config={"partition": None}),
        changed_config(config={"lr": -1}),
    ],
)
def test_a_damaged_configuration(refused, run, damage):
    (run / "config.json").write_text(damage((run / "config.json").read_text()))
    for command in (["train", "--resume"], ["evaluate"]):
        status, line = refused(*command, run)
        assert status == 1 and str(run) in line


def test_the_configuration_of_another_run(refused, undisturbed, run, tmp_path):
    with pytest.raises(SystemExit) as caught:
        main(
            [
                "train",
                *SMALL,
                "--rounds",
                "1",
                "--model",
                "resnet20",
                "--width",
                "0.25",
                "--out",
                str(tmp_path / "other"),
            ]
        )
    assert caught.value.code == 0
    shutil.copy(tmp_path / "other" / "config.json", run)
    for finished in (False, True):
        if finished:
            (run / "model.safetensors").write_bytes(undisturbed.model)
        for command in (["train", "--quiet", "--resume"], ["evaluate"]):
            status, line = refused(*command, run)
            assert status == 1 and "belongs to another run than" in line


@pytest.mark.parametrize("name", ["state.safetensors", "salience.safetensors", "clients.safetensors"])
def test_a_damaged_checkpoint(refused, undisturbed, run, name):
    """Checkpoints are renamed when they are whole, so a bad disk or hand did this: the user decides, not we."""
    newest = run / "checkpoints" / "round-00005"
    (newest / name).write_bytes((newest / name).read_bytes()[:-10])
    status, line = refused("train", "--resume", run, "--quiet")
    assert (
        status == 1 and f"{newest / name} is not a fedgate tensor file" in line and f"remove {newest} to go on" in line
    )
    shutil.rmtree(newest)
    with pytest.raises(SystemExit) as caught:
        main(["train", "--resume", str(run), "--quiet"])
    assert caught.value.code == 0
    assert (run / "model.safetensors").read_bytes() == undisturbed.model and rows(run) == undisturbed.metrics


def test_a_damaged_model(refused, undisturbed, run):
    (run / "model.safetensors").write_bytes(undisturbed.model[:-1])
    status, line = refused("evaluate", run)
    assert status == 1 and f"{run / 'model.safetensors'} is not a fedgate tensor file" in line


def test_lost_metrics(refused, run):
    (run / "metrics.jsonl").write_text("")
    status, line = refused("train", "--resume", run, "--quiet")
    assert status == 1 and "has lost rows that its checkpoint had" in line


# Disks


def test_no_write_permission(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o555)
    command = [*COMMAND, "train", *SMALL, "--out", str(folder / "run")]
    if os.geteuid() == 0:  # root may write anywhere, unless it gives that up
        if shutil.which("setpriv") is None:
            pytest.skip("root without setpriv cannot lose its permissions")
        command = ["setpriv", "--bounding-set", "-dac_override", *command]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=120)
    assert done.returncode == 1
    assert done.stderr == f"fedgate: cannot create the run directory {folder / 'run'}: Permission denied\n"


@pytest.fixture
def disk(tmp_path):
    """A function that mounts a file system of a given size."""
    mounted = []

    def mount(size):
        folder = tmp_path / "disk"
        folder.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], capture_output=True, text=True
        )
        if done.returncode != 0:
            pytest.skip(f"cannot mount a small disk: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root mounts a small disk")
@pytest.mark.parametrize("size, finished", [("24k", 0), ("200k", 0), ("860k", 2)])
def test_a_full_disk(refused, undisturbed, disk, tmp_path, size, finished):
    """What was complete stays usable: moved to a larger disk, the run ends as if nothing had happened."""
    run = disk(size) / "run"
    for arguments in (["--out", run, *SMALL], ["--resume", run, "--quiet"]):
        status, line = refused("train", *arguments)
        assert status == 1 and "No space left on device" in line
        assert f"continue with: fedgate train --resume {run}" in line
        assert len(list(run.glob("checkpoints/round-*"))) == finished
    moved = shutil.copytree(run, tmp_path / "moved")
    with pytest.raises(SystemExit) as caught:
        main(["train", "--resume", str(moved), "--quiet"])
    assert caught.value.code == 0
    assert (moved / "model.safetensors").read_bytes() == undisturbed.model and rows(moved) == undisturbed.metrics
