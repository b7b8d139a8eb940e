"""Units for systemd."""

import configparser
import shlex

import pytest

from fedgate.cli import cli


def unit(arguments, monkeypatch, capsys, folder):
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", ["fedgate", *arguments])
    cli.main(list(arguments), standalone_mode=False)
    parser = configparser.RawConfigParser()
    parser.optionxform = str
    parser.read_string(capsys.readouterr().out)
    return parser


def test_a_clients_unit_is_its_command(tmp_path, monkeypatch, capsys):
    arguments = [
        "client",
        "--superlink",
        "pi:8000",
        "--ca",
        "ca.crt",
        "--key=client-0.key",
        "--client",
        "0",
        "--unit",
    ]
    service = unit(arguments, monkeypatch, capsys, tmp_path)["Service"]
    words = shlex.split(service["ExecStart"])[3:]
    expected = f"client --superlink pi:8000 --ca {tmp_path}/ca.crt --key={tmp_path}/client-0.key --client 0"
    assert words == expected.split()
    assert service["WorkingDirectory"] == str(tmp_path)
    assert service["Restart"] == "always" and int(service["RestartSec"]) > 30


@pytest.mark.parametrize("folder", ["with a space", "100%", "$HOME"])
def test_odd_paths_are_quoted_for_systemd(tmp_path, monkeypatch, capsys, folder):
    (tmp_path / folder).mkdir()
    line = unit(["flower", "superlink", "--keys", folder, "--unit"], monkeypatch, capsys, tmp_path)["Service"][
        "ExecStart"
    ]
    assert shlex.split(line.replace("%%", "%").replace("$$", "$"))[-1] == str(tmp_path / folder)
