"""The app's plain Kotlin on a desktop JVM, and a bundle that the pipeline made, once a session."""

import os
import sys
from pathlib import Path

import pytest

from fedgate.cli import main
from fedgate.device_runtime.bundle import load_bundle
from fedgate.device_runtime.errors import FedgateError

sys.path.append(str(Path(__file__).parents[2] / "android_demo"))

from offline import harness as jvm


@pytest.fixture(scope="session")
def harness():
    """`harness.run("org.fedgate.harness.NAME", *arguments)` is what that main of android_demo/offline/harness printed.

    Skips where the tools or packages cannot be had; what does not compile fails.
    """
    try:
        jvm.prepare()
    except FedgateError as error:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(error))
    return jvm


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    """A loaded bundle of a short training on digits, with every kind of ExecuTorch program for inference."""
    folder = tmp_path_factory.mktemp("android")
    run, path = str(folder / "run"), folder / "digits.fedgate"
    training = ["--clients", "2", "--rounds", "1", "--local-epochs", "1", "--density", "0.5,1.0", "--quiet"]
    for command in (["train", *training, "--out", run], ["export", run, "--to", "executorch", "--out", str(path)]):
        with pytest.raises(SystemExit) as done:
            main(command)
        assert done.value.code in (0, None)
    return load_bundle(path)
