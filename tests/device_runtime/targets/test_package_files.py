"""The files that another machine needs run there alone, and name the kernel's libraries as here."""

import os
import shutil
import subprocess
import sys

import pytest

from fedgate.device_runtime.kernels.build import source_digest
from fedgate.device_runtime.targets.package import package_files


@pytest.fixture
def python(tmp_path):
    """A function that runs code with a copy of the files before everything that is installed."""
    for name, path in package_files(kernel_sources=True).items():
        place = tmp_path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}

    def run(*arguments):
        command = [sys.executable, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)

    return run


def test_the_copy_verifies_a_bundle(python, bundle, tmp_path):
    done = python("-m", "fedgate", "verify", bundle.path, "--runtime", "litert")
    assert done.returncode == 0 and done.stdout.count(" ok ") == 4, done.stderr
    code = "import sys, fedgate.cli, fedgate.device_runtime.verify as v; print(v.__file__, 'torch' in sys.modules)"
    assert python("-c", code).stdout.split() == [f"{tmp_path}/fedgate/device_runtime/verify.py", "False"]


def test_the_copy_finds_the_kernel_of_these_sources(python):
    code = "from fedgate.device_runtime.kernels.build import source_digest as d; print(d())"
    assert python("-c", code).stdout.strip() == source_digest()


def test_it_is_text_alone_and_leaves_the_other_stages_out():
    files = package_files()
    assert {"fedgate/__main__.py", "fedgate/cli.py", "fedgate/device_runtime/kernels/build.py"} <= set(files)
    assert all(name.endswith(".py") and path.is_file() for name, path in files.items())
    assert not any(name.startswith(("fedgate/train", "fedgate/export")) for name in files)
