"""The device on loopback, once a session, the command line as run against it, and a bundle with a `skip` program."""

import os
import subprocess
import sys

import loopback
import pytest


@pytest.fixture(scope="session")
def device(small_environment):
    reason = loopback.why_not()
    if reason:
        (pytest.fail if os.environ.get("CI") and "apt install" in reason else pytest.skip)(reason)
    packages = next((small_environment("litert") / "lib").glob("python3*")) / "site-packages"
    with loopback.device(packages) as made:
        yield made


@pytest.fixture
def fedgate(device, tmp_path):
    """A function that runs a command on the device: (status, stdout, stderr)."""
    path = f"{device.path}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "FEDGATE_TARGET_PYTHON": device.python, "OMP_NUM_THREADS": "1"}

    def run(*arguments, target=device.target, **options):
        command = [sys.executable, "-m", "fedgate", *map(str, arguments), "--target", target]
        options = {"env": environment, "cwd": tmp_path, "timeout": 300} | options
        done = subprocess.run(command, capture_output=True, text=True, **options)
        return done.returncode, done.stdout, done.stderr

    run.environment = environment
    return run


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """A bundle with a `skip` program: digits, one round."""
    folder = tmp_path_factory.mktemp("digits")
    run, path = folder / "run", folder / "digits.fedgate"
    fedgate = [sys.executable, "-m", "fedgate"]
    subprocess.run(
        [*fedgate, "train", "--rounds", "1", "--clients", "2", "--density", "0.5", "--out", run],
        check=True,
        capture_output=True,
    )
    subprocess.run([*fedgate, "export", run, "--to", "litert", "--out", path], check=True, capture_output=True)
    return path
