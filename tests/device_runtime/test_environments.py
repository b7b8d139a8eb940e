"""The device commands in environments as small as a Raspberry Pi's: no torch, one runtime, also numpy 1.

The environments are those of tests/conftest.py.
"""

import json
import os
import subprocess

import pytest


@pytest.fixture(scope="module", params=["litert", "tflite"])
def fedgate(request, small_environment):
    """A function that runs the command line in one of the environments and returns (status, stdout, stderr)."""
    folder = small_environment(request.param)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}

    def run(*arguments):
        command = [folder / "bin" / "fedgate", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=300)
        return done.returncode, done.stdout, done.stderr

    return run


def test_verify(fedgate, bundle):
    status, out, err = fedgate("verify", bundle.path, "--json")
    assert status == 0, err
    rows = {row["file"]: row for row in json.loads(out)["programs"]}
    assert {row["status"] for file, row in rows.items() if file.startswith("litert")} == {"ok"}
    assert rows["onnx-dense.onnx"]["status"] == "skipped"
    assert "pip install 'fedgate[onnx]'" in rows["onnx-dense.onnx"]["reason"]


def test_predict(fedgate, bundle, picture):
    status, out, err = fedgate("predict", bundle.path, picture, "--json")
    assert status == 0, err
    result = json.loads(out)
    assert result["runtime"] == "litert" and result["images"][0]["class"] in bundle.manifest.labels
    status, out, err = fedgate("predict", bundle.path, picture)
    assert status == 0 and "8/16" in out, err


def test_bench(fedgate, bundle):
    status, out, err = fedgate("bench", bundle.path, "--rounds", 20, "--json")
    assert status == 0, err
    result = json.loads(out)
    assert {row["role"] for row in result["rows"]} == {"dense", "masked", "static"}
    assert all(row["p50_ms"] > 0 and row["peak_rss_mb"] < 200 for row in result["rows"])
    assert len(result["skipped"]) == 4


def test_a_missing_runtime_says_what_to_install(fedgate, bundle):
    status, out, err = fedgate("verify", bundle.path, "--runtime", "executorch")
    assert (status, out) == (1, "") and err.count("\n") == 1 and "pip install 'fedgate[executorch]'" in err
