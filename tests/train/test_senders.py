"""`fedgate key`, and the secret of a run that all keys come from."""

import multiprocessing
import os
import stat

import pytest

from fedgate.cli import main
from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.formats.signed import read_key
from fedgate.train.config.resolve import resolve
from fedgate.train.server.run_directory import RunDirectory, RunInfo
from fedgate.train.server.senders import SECRET, Senders, run_secret


def directory(path, **options):
    facts = {"device": "cpu", "precision": "fp32", "augment": "none"}
    data = dict.fromkeys(("name", "sha256", "labels", "shape", "mean", "std"))
    return RunDirectory.create(path, RunInfo("3f2a", resolve(**options), facts, data, {}))


@pytest.fixture
def run(tmp_path):
    return directory(tmp_path / "run", inbox=str(tmp_path))


def call(*words):
    with pytest.raises(SystemExit) as ended:
        main([*map(str, words)])
    return ended.value.code


def test_a_key_is_its_owners_and_the_same_again(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    os.umask(0)
    assert call("key", run.path, "--client", 3) == 0
    assert capsys.readouterr().out == "client-3.key\n"
    key, content = read_key(tmp_path / "client-3.key"), (tmp_path / "client-3.key").read_bytes()
    assert (key.run, key.client) == ("3f2a", 3) and key == Senders(run.path, "3f2a", 8).key(3)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (run.path / SECRET, tmp_path / "client-3.key")} == {0o600}
    assert call("key", run.path, "--client", 3) == 0 and (tmp_path / "client-3.key").read_bytes() == content
    assert call("key", run.path, "--client", 4, "--out", "client-3.key") == 2
    assert "client-3.key exists: choose another --out" in capsys.readouterr().err
    assert (tmp_path / "client-3.key").read_bytes() == content
    assert call("key", run.path, "--client", 2**31) == 2


def test_a_run_without_an_inbox_has_no_keys(tmp_path, capsys):
    path = directory(tmp_path / "run").path
    assert call("key", path, "--client", 3, "--out", tmp_path / "a") == 2
    assert "takes no files: only a run that was started with --inbox DIR does" in capsys.readouterr().err
    assert not (path / SECRET).exists() and not (tmp_path / "a").exists()


def secret_of(path):
    return run_secret(path)


def test_many_at_once_have_one_secret(run):
    with multiprocessing.get_context("fork").Pool(8) as pool:
        assert len(set(pool.map(secret_of, [run.path] * 64))) == 1


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"x" * 33])
def test_a_damaged_secret_is_named(run, content):
    (run.path / SECRET).write_bytes(content)
    (run.path / SECRET).chmod(0o600)
    with pytest.raises(FedgateError, match=r"inbox\.key is damaged: put it back, or remove it"):
        run_secret(run.path)


def test_a_secret_that_others_may_read_is_refused(run):
    run_secret(run.path)
    (run.path / SECRET).chmod(0o644)
    with pytest.raises(FedgateError, match="chmod 600"):
        run_secret(run.path)
