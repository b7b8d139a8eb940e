"""The command that was just given, as a service for systemd: printed, for the user to look at and to install."""

import getpass
import os
import shlex
import sys
from pathlib import Path

import click

from fedgate.device_runtime.errors import UsageError

# Flower takes a node that was killed for online until two heartbeats are missed: a process that comes back before that
# waits by itself, and one of Flower's own would give up.
TEMPLATE = """[Unit]
Description={description}
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
User={user}
WorkingDirectory={folder}
ExecStart={command}
Restart=always
RestartSec=35
KillSignal=SIGINT
NoNewPrivileges=yes
ProtectSystem=full
PrivateTmp=yes

[Install]
WantedBy=multi-user.target
"""


def unit_option(description):
    """Decorator: an option --unit that prints the unit of this very command, and does nothing else."""

    def show(ctx, param, wanted):
        if wanted:
            click.echo(unit_text(description, command_words(ctx.command, sys.argv[1:])), nl=False)
            ctx.exit()

    return click.option(
        "--unit", is_flag=True, is_eager=True, expose_value=False, callback=show, help="Print a systemd unit of this."
    )


def command_words(command, arguments):
    """A command line for a service: this Python's, without --unit, with files where they are from anywhere."""
    paths = {name for param in command.params if isinstance(param.type, click.Path) for name in param.opts}
    words, takes_path = [sys.executable, "-m", "fedgate"], False
    for word in arguments:
        name, equals, value = word.partition("=")
        if takes_path:
            word = os.path.abspath(word)
        elif equals and name in paths:
            word = f"{name}={os.path.abspath(value)}"
        takes_path = word in paths
        if word != "--unit":
            words.append(word)
    return words


def unit_text(description, words):
    """The unit's text; systemd reads % and $ in words itself. Raises `UsageError` for what a line cannot hold."""
    for word in [*words, str(Path.cwd())]:
        if not word.isprintable():
            raise UsageError(f"a unit of systemd cannot hold {word!r}: rename it")
    quoted = " ".join(shlex.quote(word) for word in words).replace("%", "%%").replace("$", "$$")
    folder = str(Path.cwd()).replace("%", "%%")
    return TEMPLATE.format(description=description, user=getpass.getuser(), folder=folder, command=quoted)
