"""`fedgate bench|verify|finetune --target adb:SERIAL`, end to end: behind a recorded adb is the app's own core."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedgate.device_runtime.formats.update import decode_update
from fedgate.device_runtime.tuning.personal import load_personal

PHONE = Path(__file__).with_name("phone.py")


@pytest.fixture
def fedgate(harness, tmp_path):
    """A function: a command line for the phone -> (status, stdout, stderr)."""
    root = tmp_path / "phone"
    (root / "bin").mkdir(parents=True)
    adb = root / "bin" / "adb"
    adb.write_text(f'#!/bin/sh\nexec {sys.executable} {PHONE} {root} "$@"\n')
    adb.chmod(0o755)

    def run(*arguments):
        command = [sys.executable, "-m", "fedgate", *map(str, arguments), "--target", "adb:R58M"]
        environment = {**os.environ, "PATH": f"{root}/bin:{os.environ['PATH']}"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        return done.returncode, done.stdout, done.stderr

    return run


def test_bench(fedgate, bundle):
    status, out, err = fedgate("bench", bundle.path, "--rounds", 12, "--role", "masked")
    assert (status, err) == (0, "")
    assert "executorch-dense.pte" in out and "executorch-masked.pte" in out and "12 rounds" in out
    assert "a desktop JVM" in out and "loaded in one process" in out
    status, out, err = fedgate("bench", bundle.path, "--rounds", 12, "--cpus", "0")
    assert status == 2 and err == (
        "fedgate: R58M: the app's bench has no --cpus; "
        "it has: --runtime, --role, --level, --density, --threads, --seconds, --rounds\n"
    )


def test_verify(fedgate, bundle):
    status, out, err = fedgate("verify", bundle.path, "--runtime", "executorch", "--json")
    assert (status, err) == (0, "")
    found = {row["file"]: row["status"] for row in json.loads(out)["programs"]}
    assert found == {
        program.file: "skipped" if program.role == "skip" else "ok"
        for program in bundle.manifest.programs
        if program.role in ("dense", "masked", "static", "skip")
    }


def test_finetune(fedgate, client, bundle, tmp_path):
    words = ["--data", client.photos, "--out", tmp_path / "mine", "--epochs", 3, "--client", 4, "--skip-unreadable"]
    status, out, err = fedgate("finetune", bundle.path, *words)
    assert (status, err) == (0, "") and str(tmp_path / "mine" / "personal.safetensors") in out
    personal = load_personal(tmp_path / "mine" / "personal.safetensors", bundle)
    update = decode_update((tmp_path / "mine" / "update-client-4.safetensors").read_bytes(), bundle.tail().spec)
    assert personal.steps == update.local_steps > 0 and update.client == 4 and personal.after is not None
