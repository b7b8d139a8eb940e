"""The device commands in environments as small as a Raspberry Pi's: no torch, one engine, also numpy 1.

The environments are built once with pip, in .venv-litert and .venv-tflite at the repository's root.
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMON = ["click", "rich", "safetensors", "Pillow"]
PACKAGES = {
    "litert": [*COMMON, "numpy", "ai-edge-litert>=2.3"],
    "tflite": [*COMMON, "numpy<2", "tflite-runtime==2.14.0"],
}


def make(name: str) -> Path:
    """The environment's folder; its marker names what was installed, so that a half-made one is made again."""
    folder = ROOT / f".venv-{name}"
    recipe = f"{sys.version}\n{ROOT}\n" + "\n".join(PACKAGES[name])
    marker = folder / ".ready"
    digest = hashlib.sha256(recipe.encode()).hexdigest()
    if marker.is_file() and marker.read_text() == digest:
        return folder
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True, capture_output=True)
    pip = [folder / "bin" / "pip", "--disable-pip-version-check", "install", "-q"]
    # fedgate alone without dependencies: what it says it needs must be enough with this engine beside it
    for arguments in (PACKAGES[name], ["--no-deps", "-e", str(ROOT)]):
        done = subprocess.run([*pip, *arguments], capture_output=True, text=True)
        if done.returncode != 0:
            reason = f"cannot build .venv-{name}: {(done.stderr.strip().splitlines() or ['?'])[-1]}"
            (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    marker.write_text(digest)
    return folder


@pytest.fixture(scope="module", params=list(PACKAGES))
def fedgate(request):
    """A function that runs the command line in one of the environments and returns (status, stdout, stderr)."""
    folder = make(request.param)
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
    assert result["engine"] == "litert" and result["images"][0]["class"] in bundle.manifest.labels
    status, out, err = fedgate("predict", bundle.path, picture)
    assert status == 0 and "8/16" in out, err


def test_bench(fedgate, bundle):
    status, out, err = fedgate("bench", bundle.path, "--rounds", 20, "--json")
    assert status == 0, err
    result = json.loads(out)
    assert {row["role"] for row in result["rows"]} == {"dense", "masked", "static"}
    assert all(row["p50_ms"] > 0 and row["peak_rss_mb"] < 200 for row in result["rows"])
    assert len(result["skipped"]) == 4


def test_a_missing_engine_says_what_to_install(fedgate, bundle):
    status, out, err = fedgate("verify", bundle.path, "--engine", "executorch")
    assert (status, out) == (1, "") and err.count("\n") == 1 and "pip install 'fedgate[executorch]'" in err
