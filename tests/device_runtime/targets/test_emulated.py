"""An emulated Raspberry Pi from nothing: two commands make the root at once, count the same, and verify what ran."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import tiny_bundle
from emulation import CONSTRAINTS, emulated

from fedgate.device_runtime.formats.bundle import load_bundle

pytestmark = [emulated, pytest.mark.slow, pytest.mark.timeout(1800)]
EXACT = ("instructions", "vector_fma", "fma_2_lanes", "fma_scalar", "executed_macs")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """The cache of a user who has never run us."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def start(cache):
    """A function that starts a command on the emulated CPU with that cache."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "PIP_CONSTRAINT": str(CONSTRAINTS)}

    def run(*arguments):
        command = [sys.executable, "-m", "fedgate", *map(str, arguments), "--target", "emulated:cortex-a72", "--json"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env=environment, start_new_session=True, **pipes)

    return run


def finished(process):
    out, err = process.communicate()
    assert process.returncode == 0, err
    return json.loads(out)


@pytest.fixture(scope="module")
def two_benches(cache, digits, start):
    """What two benches say that began at once where nothing was there but what a killed one had left."""
    killed = start("bench", digits)
    while not list(cache.glob("fedgate/arm64-*.part/debian")):
        assert killed.poll() is None, killed.communicate()
        time.sleep(0.1)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert list(cache.glob("fedgate/arm64-*.part"))
    both = [start("bench", digits), start("bench", digits)]
    return [finished(process) for process in both]


def test_counts_repeat_exactly(two_benches):
    first, second = ({row["program"]: [row[name] for name in EXACT] for row in run["rows"]} for run in two_benches)
    assert first == second and len(first) == 4 and all(counts[0] > 0 for counts in first.values())


def test_the_root_was_made_once_and_whole(two_benches, cache):
    assert len(list(cache.glob("fedgate/arm64-*"))) == 1
    assert not list(cache.glob("fedgate/*.part"))


def test_counts_are_of_what_ran(two_benches):
    rows = {row["role"]: row for row in two_benches[0]["rows"]}
    dense, skip = rows["dense"], rows["skip"]
    assert dense["ratio_to_dense"] == 1 and skip["ratio_to_dense"] < 1
    assert 4 * dense["vector_fma"] == pytest.approx(dense["executed_macs"], rel=0.1)
    assert skip["executed_macs"] < dense["executed_macs"] and skip["vector_fma"] < dense["vector_fma"]
    assert skip["instructions"] > skip["vector_fma"] > 0
    assert two_benches[0]["machine"]["cpu"].startswith("cortex-a72 (Raspberry Pi 4")


def test_verify_runs_there_without_torch(two_benches, digits, start):
    rows = {row["role"]: row for row in finished(start("verify", digits))["programs"]}
    assert len(rows) == 4 and {row["status"] for row in rows.values()} == {"ok"}
    assert rows["skip"]["runs"] > 0 and rows["skip"]["compared"] > 0


def test_what_fails_there_is_one_line_here(two_benches, digits, start):
    process = start("verify", digits, "--runtime", "onnx")
    out, err = process.communicate()
    assert (process.returncode, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("fedgate: emulated cortex-a72: ") and "has no onnx" in err


def test_a_program_that_the_runtime_cannot_load_is_told(two_benches, digits, start, tmp_path):
    good = load_bundle(digits)
    name = next(program.file for program in good.manifest.programs if program.role == "dense")
    damaged = good.file(name).read_bytes()[:-4096]  # behind a hash that matches
    bad = tiny_bundle.rewrite(good, tmp_path / "bad.fedgate", {}, {name: damaged})
    process = start("bench", bad.path)
    _, err = process.communicate()
    assert process.returncode == 1 and err.count("\n") == 1 and f"{name} failed on the emulated cortex-a72" in err
