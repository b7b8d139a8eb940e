"""How a machine is reached: by the user's own `ssh`, as their configuration says (keys, aliases, jump hosts).

One connection carries all; `remote.py` says what. The remote shell sees one fixed command line.
"""

import re
import shlex
import shutil

from ..errors import FedgateError, UsageError
from .conversation import BOOTSTRAP, LostConnectionError, Session
from .remote import RemoteTarget

OPTIONS = {
    "BatchMode": "yes",  # nobody is there to type a password
    "ConnectTimeout": "10",
    "ServerAliveInterval": "15",
    "ServerAliveCountMax": "3",
    "ClearAllForwardings": "yes",
    "RemoteCommand": "none",
    "RequestTTY": "no",
}
# what ssh says at last -> what to do
HINTS = {
    "Host key verification failed": "connect once with ssh to accept its key",
    "Permission denied": "log in by a key (ssh-copy-id); fedgate asks for no password",
}
# A name travels into the ProxyCommand of the user's configuration, which is a shell's work: plain ones only.
PLACE = re.compile(
    r"(?:(?P<user>[\w.\\+][\w.\\+-]*)@)?"
    r"(?:\[(?P<address>[0-9A-Fa-f:.]+(?:%\w+)?)\]|(?P<host>[\w.][\w.-]*))"
    r"(?::(?P<port>[0-9]{1,5}))?",
    re.ASCII,
)


def open_target(rest: str, python: str) -> RemoteTarget:
    """The target of `ssh:REST`, connected. Raises `UsageError` for what is no place, `FedgateError` with the reason."""
    command = ssh_command(rest, python)
    if shutil.which("ssh") is None:
        raise FedgateError("ssh is not installed (Debian: apt install openssh-client)")
    try:
        return RemoteTarget(f"ssh:{rest}", Session(command, rest))
    except LostConnectionError as lost:
        raise FedgateError(explain(rest, python, lost)) from lost


def ssh_command(rest: str, python: str) -> list[str]:
    """The command that starts the far side on [USER@]HOST[:PORT]. Raises `UsageError`."""
    match = PLACE.fullmatch(rest)
    if match is None or not 1 <= int(match["port"] or 22) <= 65535:
        raise UsageError(f"'ssh:{rest}' is no ssh:[USER@]HOST[:PORT]; an IPv6 address stands in brackets")
    if not python.isprintable() or not python or python.startswith("-"):
        raise UsageError("--python takes the path of a Python on the device")
    options = [word for key, value in OPTIONS.items() for word in ("-o", f"{key}={value}")]
    options += ["-p", match["port"]] if match["port"] else []
    host = match["address"] or match["host"]
    place = f"{match['user']}@{host}" if match["user"] else host
    # a path from the home folder is one from where ssh starts
    return ["ssh", *options, "--", place, f"{shlex.quote(python.removeprefix('~/'))} -c '{BOOTSTRAP}'"]


def explain(rest: str, python: str, lost: LostConnectionError) -> str:
    """Why a connection was not made, from ssh's exit status and last line."""
    if lost.status in (126, 127):
        return f"{rest} has no '{python}': name a Python 3.11 or newer with --python ({lost})"
    hint = next((f"; {advice}" for words, advice in HINTS.items() if words in str(lost)), "")
    return f"cannot reach {rest}: {lost}{hint}"
