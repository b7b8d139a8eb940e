"""Commands on a real sshd, in an account that has a Python with LiteRT and nothing of ours."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest


def test_verify_and_bench_and_deploy(fedgate, device, bundle):
    status, out, err = fedgate("verify", bundle.path, "--engine=litert")
    assert (status, err) == (0, "") and out.count(" ok ") == 4
    status, out, err = fedgate("bench", bundle.path, "--rounds", 20, "--density", 0.25, "--json")
    assert (status, err) == (0, "")
    result = json.loads(out)
    assert {row["program"] for row in result["rows"]} == {
        *("litert-dense.tflite", "litert-masked.tflite", "litert-static0.tflite")
    }
    assert all(row["p50_ms"] > 0 and row["rounds"] == 20 for row in result["rows"]) and len(result["skipped"]) == 4
    assert "executorch" not in result["machine"]  # the account's packages were looked at, not ours
    status, out, err = fedgate("deploy", bundle.path, "--json")
    assert (status, err) == (0, "")
    there = json.loads(out)
    assert there["sent_bytes"] == 0 and there["engines"] == ["litert"]
    assert Path(there["bundle"]).parent == device.cache and device.parts() == []
    assert len(device.copies()) == 2  # the code and the bundle, each once
    by_hand = fedgate("deploy", bundle.path)[1].rpartition("by hand there: ")[2]
    done = subprocess.run(["su", device.user, "-c", by_hand], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count(" ok ") == 4, done.stderr


def test_errors_there_are_one_line_here_with_their_exit_status(fedgate, bundle, changed):
    for arguments, status, text in (
        (["bench", bundle.path, "--threads", 0], 2, "threads and rounds must be at least 1"),
        (["verify", bundle.path, "--engine", "executorch"], 1, "pip install 'fedgate[executorch]'"),
    ):
        got, out, err = fedgate(*arguments)
        assert (got, out) == (status, "") and err.startswith("fedgate: device: ") and text in err
        assert err.count("\n") == 1
    swapped = changed(files={"litert-dense.tflite": bundle.file("litert-masked.tflite")})
    status, out, err = fedgate("verify", swapped.path, "--engine", "litert")
    assert status == 1 and "mismatch" in out and err.count("\n") == 1 and "litert-dense.tflite" in err


@pytest.mark.parametrize(
    "target, python, text",
    [
        ("ssh:nobody@device", None, "Permission denied"),
        ("ssh:device:1", None, "Connection refused"),
        ("ssh:unknown.invalid", None, "Could not resolve hostname"),
        ("ssh:device", "no/such python", "has no 'no/such python'"),
        ("ssh:device", "/usr/bin/env", "cannot reach device"),
    ],
)
def test_a_device_that_cannot_be_used_is_told_in_one_line(fedgate, bundle, target, python, text):
    options = ["--python", python] if python else []
    status, out, err = fedgate("verify", bundle.path, *options, target=target)
    assert (status, out) == (1, "") and text in err and err.count("\n") == 1


def test_a_python_without_an_engine_gets_the_pip_command(fedgate, bundle):
    status, out, err = fedgate("deploy", bundle.path, "--python", "/usr/bin/python3")
    assert (status, out) == (1, "") and err.count("\n") == 1
    assert "pip install click numpy rich safetensors Pillow ai-edge-litert" in err


def test_hostile_names(fedgate, device, bundle, tmp_path):
    name = "-o $(touch x) `touch x` 'a\" ;touch x\n\\.fedgate"
    shutil.copytree(bundle.path, tmp_path / name)
    status, _, err = fedgate("verify", f"./{name}", "--engine", "litert")
    assert (status, err) == (0, "")
    status, _, err = fedgate("bench", bundle.path, "--engine", "'; touch x #")
    assert status == 2 and "unknown engine" in err
    status, _, err = fedgate("verify", bundle.path, "--python", "$(touch x)'; touch x; '")
    assert status == 1 and err.count("\n") == 1
    assert not list(tmp_path.glob("x")) and not list(device.home.rglob("x"))


def test_a_login_script_that_prints_is_no_answer(fedgate, device, bundle):
    script = device.home / ".bashrc"
    before = script.read_text() if script.exists() else ""
    try:
        script.write_text('echo "Welcome {\\"hello\\": 1}"\necho\n' + before)
        assert fedgate("verify", bundle.path, "--engine", "litert")[0] == 0
    finally:
        script.write_text(before)
