"""The app's plain Kotlin on a desktop JVM, and a bundle that the pipeline made, once a session."""

import json
import os
from functools import partial
from types import SimpleNamespace

import digits_client
import pytest
from offline import harness as jvm
from offline import ops

from fedgate.device_runtime.errors import FedgateError


@pytest.fixture(scope="session")
def harness(request):
    """`harness.run("org.fedgate.harness.NAME", *arguments)` is what that main of android_demo/offline/harness printed.

    Tests marked `EVERY_WAY` get it for each way. Skips where the tools or packages cannot be had; what does not compile
    fails.
    """
    try:
        jvm.prepare()
    except FedgateError as error:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(error))
    way = getattr(request, "param", {})
    return SimpleNamespace(run=partial(jvm.run, **way), command=partial(jvm.command, **way))


@pytest.fixture(scope="session")
def client(tmp_path_factory):
    """A run of a network's last stage, its bundle and a client's images, see digits_client.py."""
    return digits_client.make(tmp_path_factory.mktemp("android"))


@pytest.fixture(scope="session")
def bundle(client):
    """Its loaded bundle: two densities, and every kind of ExecuTorch program."""
    return client.bundle


@pytest.fixture(scope="session")
def operator():
    """A function: ABI -> the built library; skips where its tools cannot be had, and fails where it does not build."""

    def build(abi):
        try:
            ops.prepare(abi)
        except FedgateError as error:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(str(error))
        return ops.operator_library(abi)

    return build


@pytest.fixture
def ask(harness, tmp_path):
    """A function: requests of the main Formats -> its answers."""

    def run(requests):
        (tmp_path / "requests").write_text("".join(json.dumps(request) + "\n" for request in requests))
        return [
            json.loads(line) for line in harness.run("org.fedgate.harness.Formats", tmp_path / "requests").splitlines()
        ]

    return run
