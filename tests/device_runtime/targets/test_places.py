"""What --target takes, the command line that it becomes, and which options travel."""

import shlex
import subprocess
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from fedgate.cli import main
from fedgate.device_runtime.errors import UsageError
from fedgate.device_runtime.targets import open_target
from fedgate.device_runtime.targets.conversation import BOOTSTRAP
from fedgate.device_runtime.targets.request import InputPath, request_of, target_options
from fedgate.device_runtime.targets.ssh import ssh_command


@pytest.mark.parametrize(
    "text, place, port",
    [
        ("pi", "pi", None),
        ("pi@raspberrypi.local:2222", "pi@raspberrypi.local", "2222"),
        ("[fe80::1%eth0]:22", "fe80::1%eth0", "22"),
        ("pi@[::1]", "pi@::1", None),
        ("me@work@host", None, None),
        ("DOMAIN\\me@host_1", "DOMAIN\\me@host_1", None),
    ],
)
def test_places(text, place, port):
    if place is None:
        with pytest.raises(UsageError):
            ssh_command(text, "python3")
        return
    command = ssh_command(text, "python3")
    assert command[0] == "ssh" and command[-3:-1] == ["--", place]
    assert (command[command.index("-p") + 1] if "-p" in command else None) == port
    assert "BatchMode=yes" in command


@pytest.mark.parametrize(
    "text",
    ["-oProxyCommand=x", "pi:0", "pi:65536", "pi:x", "a b", "$(x)", "pi;x", "@pi", "-l@pi", "::1", "pi\n", "`x`"],
)
def test_no_places(text):
    with pytest.raises(UsageError, match="USER@"):
        ssh_command(text, "python3")


@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize("python", ["python3", "/a b/$(x)'\"/python", "~/venv/bin/python"])
def test_the_remote_shell_reads_the_words_that_are_meant(shell, python):
    line = ssh_command("pi", python)[-1]
    name = python.removeprefix("~/")
    show = subprocess.run([shell, "-c", f"printf '%s\\n' {line}"], capture_output=True, text=True, check=True)
    assert show.stdout == f"{name}\n-c\n{BOOTSTRAP}\n" and shlex.split(line) == [name, "-c", BOOTSTRAP]


def test_targets_are_told_apart():
    assert open_target("local") is None
    with pytest.raises(UsageError, match="unknown target 'shh'; known: local, "):
        open_target("shh:pi")
    with pytest.raises(UsageError, match="names no device"):
        open_target("ssh:")


def test_options_travel_as_they_were_given(tmp_path):
    seen = []

    @click.command()
    @click.argument("bundle")
    @click.option("--runtime")
    @click.option("-t", "--threads", type=int, default=1)
    @click.option("--seconds", type=float, default=10.0)
    @click.option("--fast/--slow", default=True)
    @click.option("--quiet", is_flag=True)
    @click.option("--layer", multiple=True)
    @click.option("--personal", type=click.Path(exists=True))
    @click.option("--data", type=InputPath())
    @click.option("--out", type=click.Path())
    @target_options
    @click.option("--json", "as_json", is_flag=True)
    @click.pass_context
    def command(context, **_):
        seen.append(request_of(context, Path("o")))

    path = tmp_path / "a; b"
    path.touch()
    arguments = ["b.fedgate", "--runtime=-x y", "-t", "2", "--slow", "--quiet", "--layer=a", "--layer=b"]
    arguments += ["--personal", str(path), "--data", "device:/home/pi/a b", "--out", "o", "--target=ssh:pi", "--json"]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0, result.output
    request = seen.pop()
    assert (request.command, request.bundle, request.out) == ("command", Path("b.fedgate"), Path("o"))
    assert request.inputs() == [path] and request.options["seconds"] == 10.0
    assert request.words({path: "/c/file"}) == [
        *("--runtime=-x y", "--threads=2", "--slow", "--quiet", "--layer=a", "--layer=b"),
        *("--personal=/c/file", "--data=/home/pi/a b"),
    ]
    CliRunner().invoke(command, ["b.fedgate"])
    assert seen[0].words({}) == []


@pytest.mark.parametrize("arguments", [["deploy", "x.fedgate"], ["deploy", "x.fedgate", "--target", "local"]])
def test_deploy_needs_a_device(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2 and capsys.readouterr().err.startswith("fedgate: name the device with --target ssh:")
