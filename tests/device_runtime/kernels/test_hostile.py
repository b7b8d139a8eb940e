"""Operators that are called as a stranger's program might call them, through each runtime and under sanitizers.

A call is refused, or gives what the naive loops give; nothing outside its arrays is touched. 100,000 calls of each:

    pytest tests/device_runtime/kernels/test_hostile.py -m all
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import replay

from fedgate.device_runtime.kernels import build

HERE = Path(__file__).parent
SANITIZE = "-fsanitize=address,undefined -fno-sanitize-recover=all -g -Og"
RUNTIMES = ("executorch", "litert", "onnx")


@pytest.fixture(scope="session")
def sanitized():
    """The environment of a process in which the operators of all runtimes are sanitized."""
    reason = build.why_not_buildable()
    if reason:
        pytest.skip(reason)
    runtime = [_library(name) for name in ("libasan.so", "libstdc++.so.6")]
    driver = HERE / "hostile_executorch.cpp"
    recipe = [build.source_digest(), SANITIZE, driver.read_text(), *map(build.file_name, build.KINDS)]
    folder = replay.FOLDER / f"sanitized-{hashlib.sha256(repr(recipe).encode()).hexdigest()[:12]}"
    if not (folder / "driver.so").exists():
        options = (f"-DCMAKE_CXX_FLAGS={SANITIZE}", "-DCMAKE_BUILD_TYPE=None")
        built = build.build(options=options, folder=folder)
        _build_driver(driver, built["executorch"], folder / "driver.so")
    return {
        "FEDGATE_KERNELS": str(folder),
        "HOSTILE_EXECUTORCH": str(folder / "driver.so"),
        # libstdc++ too, or the sanitizer does not find what throws exceptions
        "LD_PRELOAD": " ".join(runtime),
        # the interpreter and the runtimes leave memory behind; a lack of memory is refused, not fatal; and the stack
        # of each allocation would take longer than all else
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:malloc_context_size=2:quarantine_size_mb=32",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "OMP_NUM_THREADS": "1",
    }


def _library(name):
    path = subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()
    if not os.path.isabs(path):
        pytest.skip(f"g++ has no {name} (Debian: apt install g++)")
    return path


def _build_driver(source, operators, target):
    package = build.executorch_package()
    (runtime,) = package.glob("extension/pybindings/_portable_lib*.so")
    headers = (build.SOURCES / "wheel", package / "include")
    headers += (package / "include" / "executorch" / "runtime" / "core" / "portable_type" / "c10",)
    command = ["g++", "-std=gnu++20", "-shared", "-fPIC", *SANITIZE.split(), "-DC10_USING_CUSTOM_GENERATED_MACROS"]
    command += [*(f"-isystem{path}" for path in headers), source, runtime, operators, "-o", target]
    subprocess.run(list(map(str, command)), check=True)


def attack(runtime, first, count, sanitized, folder):
    """Make calls; what became of how many."""
    progress = folder / "progress"
    command = [sys.executable, str(HERE / "hostile_run.py"), runtime, str(first), str(count), str(progress)]
    # to files: standard error is the runtime's, which tells of each refusal
    logs = {name: f"{sanitized[name]}:log_path={folder}/{name}" for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS")}
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **sanitized, **logs})
    said = "".join(path.read_text()[:6000] for path in folder.glob("*SAN_OPTIONS.*"))
    last = progress.read_text().strip() if progress.exists() else "none"
    assert (done.returncode, said) == (0, ""), f"call {last}: exit {done.returncode}, {done.stderr[-3000:]}\n{said}"
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"{runtime}: {found}")
    assert sum(found.values()) == count
    assert min(found["equal"], found["refused"]) > count / 5
    return found


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_thousands_of_hostile_calls_are_refused_or_right(runtime, sanitized, tmp_path):
    attack(runtime, 0, 2000, sanitized, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_hundred_thousand_hostile_calls_are_refused_or_right(runtime, sanitized, tmp_path):
    attack(runtime, 10**6, 100_000, sanitized, tmp_path)
