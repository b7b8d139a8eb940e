"""What many tests of training begin with."""

import socket

import pytest
from whole_rounds import run  # noqa: F401 - a fixture

from fedgate.train.data.load import load_data


@pytest.fixture(scope="session")
def digits():
    return load_data("digits")


@pytest.fixture
def private_cache_and_no_network(tmp_path, monkeypatch):
    """A test reads afresh, and fails if anything asks the network."""
    import datasets

    def refuse(*args):
        raise AssertionError(f"tried the network: {args}")

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
