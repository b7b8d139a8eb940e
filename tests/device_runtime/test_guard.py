"""Programs that crash their runtime, hang in it or are unknown to it: one line, and our own process lives on."""

import collections
import json
import os
import pathlib
import subprocess
import sys
from dataclasses import replace

import damaged_programs
import pytest
from tiny_bundle import program

from fedgate.device_runtime.engines import guard
from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.formats.manifest import RUNTIMES
from fedgate.device_runtime.verify import verify

CLI = "import sys\nfrom fedgate.cli import main\nmain(sys.argv[1:])"


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    """Nothing was tried before."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("FEDGATE_NO_GUARD", raising=False)


@pytest.fixture
def no_children(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")


@pytest.fixture
def crashing(bundle, changed):
    """A bundle whose masked LiteRT program crashes, with the right hashes."""
    name = "litert-masked.tflite"
    return changed(files={name: damaged_programs.crashing_litert(bundle.file(name).read_bytes())})


def test_a_program_that_passed_is_not_tried_again(bundle, monkeypatch):
    programs = [p for p in bundle.manifest.programs if p.runtime == "litert"]
    assert guard.failures(bundle, programs) == {}
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert guard.failures(bundle, programs) == {}
    with pytest.raises(FedgateError, match="cannot start a process to try onnx-masked"):
        guard.check(bundle, [program(bundle, "onnx", "masked")])


def test_what_is_remembered_is_one_program_under_one_entry_of_the_manifest(bundle, no_children):
    masked, dense = program(bundle, "litert", "masked"), program(bundle, "litert", "dense")
    guard.remember(bundle, [masked])
    guard.check(bundle, [masked])
    for other in (dense, replace(masked, sha256=dense.sha256), replace(masked, outputs=masked.outputs[:1])):
        with pytest.raises(FedgateError, match="cannot start a process"):
            guard.check(bundle, [other])


def test_the_guard_can_be_left_out(bundle, no_children, monkeypatch):
    monkeypatch.setenv("FEDGATE_NO_GUARD", "1")
    guard.check(bundle, bundle.manifest.programs)


def test_a_cache_that_cannot_be_written_costs_a_trial_each_time(bundle, tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert guard.failures(bundle, [program(bundle, "litert", "dense")]) == {}


def test_verify_goes_on_after_a_crash(crashing):
    rows = {row["role"]: row for row in verify(crashing, "litert") if row["level"] in (None, 1)}
    assert [rows[role]["status"] for role in ("dense", "masked", "static")] == ["ok", "mismatch", "ok"]
    assert rows["masked"]["reason"].startswith("litert crashes on litert-masked.tflite (SIG")


@pytest.mark.parametrize("command", ["verify", "predict", "bench"])
def test_the_commands_end_with_one_line(crashing, picture, command):
    arguments = [str(crashing.path), *([str(picture)] if command == "predict" else []), "--runtime", "litert"]
    done = subprocess.run([sys.executable, "-c", CLI, command, *arguments], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "litert crashes on litert-masked.tflite (SIGSEGV): it is damaged" in done.stderr


def test_a_program_that_does_not_end(changed):
    endless = changed(files={"onnx-dense.onnx": damaged_programs.endless_onnx()})
    (reason,) = guard.failures(endless, [program(endless, "onnx", "dense")], seconds=1).values()
    assert reason == "onnx did not finish onnx-dense.onnx within 1 s"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_runtime_that_lacks_an_operator(bundle, changed, runtime):
    file = program(bundle, runtime, "masked").file
    data, name = damaged_programs.unknown_operator(runtime, bundle.file(file).read_bytes())
    (row,) = (row for row in verify(changed(files={file: data}), runtime) if row["file"] == file)
    assert row["status"] == "mismatch" and row["reason"].startswith(f"{runtime} refuses to load {file}")
    assert name in row["reason"] and "\n" not in row["reason"]


# In another process, since each fork of this one, which holds torch, would take longer than the program that it tries.
FUZZ = """
import gc, hashlib, json, os, sys
from dataclasses import replace
from pathlib import Path
import numpy as np
import damaged_programs
from fedgate.device_runtime.engines import guard_probe
from fedgate.device_runtime.formats.bundle import Bundle, load_bundle
from fedgate.device_runtime.engines import import_runtime
from fedgate.device_runtime.verify import verify_program

bundle, folder, runtime = load_bundle(Path(sys.argv[1])), Path(sys.argv[2]), sys.argv[3]
reference = bundle.reference()
programs = [p for p in bundle.manifest.programs if p.runtime == runtime and p.role in ("masked", "dense")]
import_runtime(runtime)
gc.freeze()
first_attempt = guard_probe.attempt

def whole_verification(*arguments):
    verify_program(*arguments[:2], reference)
    return ""

for number in range(int(sys.argv[4])):
    draw = np.random.default_rng(number)
    program = programs[number % 2]
    data = bundle.file(program.file).read_bytes()
    if number % 3:
        wrong = damaged_programs.wrong_bytes(data, draw)
    else:
        wrong = damaged_programs.wrong_structure(runtime, data, draw)
    digest = hashlib.sha256(wrong).hexdigest()
    program = replace(program, file=f"{number}-{program.file}", sha256=digest, bytes=len(wrong))
    here = Bundle(folder, replace(bundle.manifest, programs=(program,)))
    here.file(program.file).write_bytes(wrong)
    guard_probe.attempt = first_attempt
    reason = guard_probe.in_a_fork(here, program, reference.image[:1], 60)
    later = ""
    if not reason:
        guard_probe.attempt = whole_verification
        later = guard_probe.in_a_fork(here, program, reference.image, 60)
    here.file(program.file).unlink()
    print(json.dumps([number, reason, later]), flush=True)
"""


def fuzz(bundle, folder, runtime, count):
    """Try damaged programs as the guard does, and verify those that pass; what happened to how many of them."""
    command = [sys.executable, "-c", FUZZ, str(bundle.path), str(folder), runtime, str(count)]
    path = str(pathlib.Path(__file__).parent)
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == count, done.stderr[-1000:]
    assert [row for row in rows if row[2]] == []  # what passed does no harm afterwards
    assert [row for row in rows if "\n" in row[1] or "did not finish" in row[1]] == []
    found = collections.Counter("crash" if " crashes on " in r else "refused" if r else "ran" for _, r, _ in rows)
    assert found["refused"] and found["ran"]  # not all damage is found at once, nor is none
    return found


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_damaged_programs_do_no_harm(bundle, tmp_path, runtime):
    fuzz(bundle, tmp_path, runtime, 40)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("runtime, count", [("litert", 900), ("onnx", 900), ("executorch", 300)])
def test_hundreds_of_damaged_programs_do_no_harm(bundle, tmp_path, runtime, count):
    found = fuzz(bundle, tmp_path, runtime, count)
    assert found["crash"] or runtime == "onnx"  # of which none is known to crash
