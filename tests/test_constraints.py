"""The versions of constraints.txt can be installed with newer Pythons too, without a compiler."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# has no wheel at all; it is Python alone, so that pip makes one anywhere
SOURCE_ALONE = {"antlr4-python3-runtime"}


@pytest.mark.slow
@pytest.mark.parametrize("python", ["3.12", "3.13"])
def test_every_version_has_a_wheel(python, tmp_path):
    """pip asks the package index, and downloads what it needs to know of each."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    wheels = [line for line in lines if line.partition("==")[0] not in SOURCE_ALONE]
    assert len(lines) - len(wheels) == len(SOURCE_ALONE)
    (tmp_path / "wheels.txt").write_text("\n".join(wheels) + "\n")
    command = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--dry-run"]
    command += ["--no-deps", "--ignore-installed", "--only-binary", ":all:", "--python-version", python]
    command += ["--target", tmp_path / "nowhere", "-r", tmp_path / "wheels.txt"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
