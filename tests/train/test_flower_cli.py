"""Requests that make no sense are one line, and nothing is begun."""

import pytest

from fedgate.cli import main

SUPERLINK = ["--superlink", "127.0.0.1:1"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "--engine", "flower", "--out", "run"], "needs --superlink HOST:PORT"),
        (["train", *SUPERLINK, "--insecure", "--out", "run"], "--superlink is for --engine flower"),
        (["train", "--engine", "flower", *SUPERLINK, "--out", "run"], "whom to trust?"),
        (["train", "--engine", "flower", "--ca", "ca.crt", "--out", "run"], "go with --superlink"),
        (["train", "--engine", "flower", *SUPERLINK, "--insecure", "--ca", "ca.crt", "--out", "run"], "either --ca"),
        (["train", "--engine", "flower", "--superlink", "host", "--insecure", "--out", "run"], "no HOST:PORT"),
        (["client", "--client", "0", *SUPERLINK], "whom to trust?"),
        (["client", "--client", "0", *SUPERLINK, "--insecure", "--key", "k"], "a node needs its --key, except"),
        (["flower", "superlink"], "give --keys DIR"),
        (["flower", "keys", "keys", "--node", "../../x"], "no name of a node"),
    ],
)
def test_one_line_and_exit_status_2(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ca.crt").write_text("")
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    lines = [line for line in capsys.readouterr().err.splitlines() if "WARNING" not in line]
    assert ended.value.code == 2 and len(lines) == 1 and said in lines[0]
    assert not (tmp_path / "run").exists()


def test_insecure_warns(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["train", "--engine", "flower", *SUPERLINK, "--insecure", "--rounds", "0", "--out", "run"])
    assert "WARNING: --insecure" in capsys.readouterr().err


def test_files_that_are_missing_are_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for arguments, said in (
        (["client", "--client", "0", *SUPERLINK, "--ca", "no.crt", "--key", "k"], "cannot read no.crt"),
        (["flower", "superlink", "--keys", "none"], "make one with fedgate flower keys none"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 1 and said in capsys.readouterr().err
