"""Commands on a real sshd, in an account that has a Python with LiteRT and nothing of ours."""

import json
import os
import platform
import pwd
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest


def test_verify_and_bench_and_deploy(fedgate, device, bundle):
    status, out, err = fedgate("verify", bundle.path, "--runtime=litert")
    assert (status, err) == (0, "") and out.count(" ok ") == 4
    status, out, err = fedgate("bench", bundle.path, "--rounds", 20, "--density", 0.25, "--json")
    assert (status, err) == (0, "")
    result = json.loads(out)
    assert {row["program"] for row in result["rows"]} == {
        *("litert-dense.tflite", "litert-masked.tflite", "litert-static0.tflite")
    }
    assert all(row["p50_ms"] > 0 and row["rounds"] == 20 for row in result["rows"]) and len(result["skipped"]) == 4
    assert result["machine"]["python"].endswith(platform.python_version())
    assert "executorch" not in result["machine"]  # the account's packages were looked at, not ours
    status, out, err = fedgate("deploy", bundle.path, "--json")
    assert (status, err) == (0, "")
    there = json.loads(out)
    assert there["sent_bytes"] == 0 and there["runtimes"] == ["litert"]
    assert Path(there["bundle"]).parent == device.cache and device.parts() == []
    assert len(device.copies()) == 2  # the code and the bundle, each once
    by_hand = fedgate("deploy", bundle.path)[1].rpartition("by hand there: ")[2]
    libraries = {**os.environ, "LD_LIBRARY_PATH": str(device.bare_python.parents[1] / "lib")}
    done = subprocess.run(["su", device.user, "-c", by_hand], capture_output=True, text=True, env=libraries)
    assert done.returncode == 0 and done.stdout.count(" ok ") == 4, done.stderr


def test_errors_there_are_one_line_here_with_their_exit_status(fedgate, bundle, changed):
    for arguments, status, text in (
        (["bench", bundle.path, "--threads", 0], 2, "threads and rounds must be at least 1"),
        (["verify", bundle.path, "--runtime", "executorch"], 1, "pip install 'fedgate[executorch]'"),
    ):
        got, out, err = fedgate(*arguments)
        assert (got, out) == (status, "") and err.startswith("fedgate: device: ") and text in err
        assert err.count("\n") == 1
    swapped = changed(files={"litert-dense.tflite": bundle.file("litert-masked.tflite")})
    status, out, err = fedgate("verify", swapped.path, "--runtime", "litert")
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


def test_a_python_without_an_runtime_gets_the_pip_command(fedgate, device, bundle):
    status, out, err = fedgate("deploy", bundle.path, "--python", device.bare_python)
    assert (status, out) == (1, "") and err.count("\n") == 1
    assert "pip install click numpy rich safetensors Pillow ai-edge-litert" in err


def test_hostile_names(fedgate, device, bundle, tmp_path):
    name = "-o $(touch x) `touch x` 'a\" ;touch x\n\\.fedgate"
    shutil.copytree(bundle.path, tmp_path / name)
    status, _, err = fedgate("verify", f"./{name}", "--runtime", "litert")
    assert (status, err) == (0, "")
    status, _, err = fedgate("bench", bundle.path, "--runtime", "'; touch x #")
    assert status == 2 and "unknown runtime" in err
    status, _, err = fedgate("verify", bundle.path, "--python", "$(touch x)'; touch x; '")
    assert status == 1 and err.count("\n") == 1
    assert not list(tmp_path.glob("x")) and not list(device.home.rglob("x"))


def test_a_login_script_that_prints_is_no_answer(fedgate, device, bundle):
    script = device.home / ".bashrc"
    before = script.read_text() if script.exists() else ""
    try:
        script.write_text('echo "Welcome {\\"hello\\": 1}"\necho\n' + before)
        assert fedgate("verify", bundle.path, "--runtime", "litert")[0] == 0
    finally:
        script.write_text(before)


@pytest.fixture
def large(changed):
    """The bundle with 24 MB more, in six files that its manifest names."""
    return changed(files={f"large{number}.bin": os.urandom(4 << 20) for number in range(6)})


@pytest.fixture
def slow(fedgate, device):
    """Starts a command whose connection carries 8 MB a second, so that its copying can be met on the way."""
    throttle = "import os,time\nwhile d:=os.read(0,65536):\n  os.write(1,d);time.sleep(1/128)"
    folder = device.path.parent / "slow"
    folder.mkdir(exist_ok=True)
    (folder / "ssh").write_text(f"#!/bin/sh\n{sys.executable} -c '{throttle}' | {device.path}/ssh \"$@\"\n")
    (folder / "ssh").chmod(0o755)
    environment = fedgate.environment | {"PATH": f"{folder}:{fedgate.environment['PATH']}"}

    def start(*arguments):
        command = [sys.executable, "-m", "fedgate", *map(str, arguments), "--target", device.target]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("dies", ["device", "client"])
def test_a_connection_that_is_cut_in_the_middle_of_a_copy(fedgate, device, large, slow, dies):
    started = slow("verify", large.path, "--runtime", "litert")

    def arrived():
        return [p for p in device.cache.glob("part-bundle-*/*") if "tmp" not in p.name and p.stat().st_size == 4 << 20]

    wait_for(lambda: len(arrived()) >= 2)
    if dies == "device":
        device.cut()
    else:
        started.kill()
    _, err = started.communicate(timeout=60)
    if dies == "device":
        assert started.returncode == 1 and err.count("\n") == 1
        assert err.startswith("fedgate: the connection to device was lost") and "give the same command again" in err
    wait_for(lambda: not any("import sys;del" in line for line in device.processes()))
    whole = len(arrived())
    assert 2 <= whole < 6 and len(device.parts()) == 1
    before = device.copies()
    status, out, err = fedgate("deploy", large.path, "--json")
    assert (status, err) == (0, "")
    there = json.loads(out)
    assert (6 - whole) * (4 << 20) <= there["sent_bytes"] < (6 - whole + 1) * (4 << 20)
    assert set(device.copies()) - set(before) == {Path(there["bundle"]).name} and device.parts() == []
    status, out, _ = fedgate("verify", large.path, "--runtime", "litert")
    assert status == 0 and out.count(" ok ") == 4


def test_a_full_disk(fedgate, device, bundle, large):
    cache = device.home / ".cache"
    cache.mkdir(exist_ok=True)
    owner = pwd.getpwnam(device.user)
    options = f"size=12m,uid={owner.pw_uid},gid={owner.pw_gid}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", cache], check=True)
    try:
        status, out, err = fedgate("verify", large.path)
        assert (status, out) == (1, "") and err.count("\n") == 1
        assert "no space left" in err and "needed" in err and "free" in err
        assert [name.split("-")[0] for name in device.copies()] == ["code"] and device.parts() == []
        assert fedgate("verify", bundle.path, "--runtime", "litert")[0] == 0  # what fits still runs
    finally:
        subprocess.run(["umount", "--lazy", cache], check=True)
