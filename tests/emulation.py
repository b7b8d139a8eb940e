"""What emulated targets need on this machine, for tests that run them."""

import os
import shutil
from pathlib import Path

import pytest

TOOLS = {  # command -> Debian package
    "qemu-aarch64": "qemu-user",
    "mmdebstrap": "mmdebstrap",
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu",
    "aarch64-linux-gnu-g++": "g++-aarch64-linux-gnu",
    "cc": "gcc",
}
MISSING = [f"{tool} (Debian's {package})" for tool, package in TOOLS.items() if shutil.which(tool) is None]
# where everything has been installed, the test runs and fails
emulated = pytest.mark.skipif(bool(MISSING) and "CI" not in os.environ, reason=f"missing: {', '.join(MISSING)}")
CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"
