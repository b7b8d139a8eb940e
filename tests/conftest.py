"""What tests of several stages share: the built kernel, and environments as small as a Raspberry Pi's.

The environments have no torch and one engine; they are built once with pip, at the repository's root.
"""

import functools
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedgate.device_runtime.kernels.build import ensure

ROOT = Path(__file__).parents[1]
COMMON = ["click", "rich", "safetensors", "Pillow"]
PACKAGES = {
    "litert": [*COMMON, "numpy", "ai-edge-litert>=2.3"],
    "tflite": [*COMMON, "numpy<2", "tflite-runtime==2.14.0"],
}


@functools.cache
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


@pytest.fixture(scope="session")
def need_kernel():
    """A function that builds the kernel for this machine where it is not built yet, or skips the test."""

    @functools.cache
    def build():
        return ensure()

    def need():
        reason = build()
        if reason:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)

    return need


@pytest.fixture(scope="session")
def small_environment():
    """A function from a name, `litert` or `tflite`, to the folder of that environment."""
    return make
