"""One small run and one bundle of it, made by real commands once a session; and ways to call the command line."""

import re
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from processes import SMALL, fedgate, rows

from fedgate.cli import main


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """A run of `SMALL` that nothing interrupted: its path, model (bytes), metrics (rows), and how long it took."""
    path = tmp_path_factory.mktemp("undisturbed") / "run"
    started = time.perf_counter()
    done = fedgate("train", *SMALL, "--out", path)
    seconds = time.perf_counter() - started
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(
        path=path, model=(path / "model.safetensors").read_bytes(), metrics=rows(path), seconds=seconds
    )


@pytest.fixture(scope="session")
def bundle(undisturbed, tmp_path_factory):
    """The path of a bundle of that run with ONNX programs."""
    path = tmp_path_factory.mktemp("bundle") / "digits.fedgate"
    done = fedgate("export", undisturbed.path, "--to", "onnx", "--out", path)
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture
def refused(capfd):
    """A function that runs a command that must fail, in this process; returns (status, its one line on stderr)."""

    def run(*arguments):
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        assert out == "" and err.startswith("fedgate: ") and err.endswith("\n") and err.count("\n") == 1, (out, err)
        assert not re.search(r"\wError\b|Errno|--debug", err), err  # Python's words, not ours
        return caught.value.code, err

    return run


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A fresh working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
