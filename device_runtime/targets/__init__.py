"""Where a command runs: here, on a device that ssh or adb reaches, or on an emulated ARM CPU.

A target is a context manager with `run(request) -> dict`: it brings the bundle and what the command needs to the
device, runs the same command there, and returns the JSON document that the command prints with --json.
"""

import importlib
from pathlib import Path

import click

from ..errors import UsageError, choose
from .request import ON_DEVICE, request_of

# kind -> the module here whose `open_target(rest, python)` makes the target
KINDS = {"ssh": ".ssh", "adb": ".adb", "emulated": ".emulated"}


def open_target(text: str, python: str = "python3"):
    """The target that `text` names, connected; None for "local".

    Raises `UsageError` for a text that names none, `FedgateError` where it cannot be reached or used.
    """
    if text == "local":
        return None
    kind, _, rest = text.partition(":")
    choose("target", kind, ("local", *KINDS))
    if not rest:
        raise UsageError(f"target '{text}' names no device: write ssh:[USER@]HOST[:PORT], adb:SERIAL or emulated:CPU")
    return importlib.import_module(KINDS[kind], __name__).open_target(rest, python)


def elsewhere(out: Path | None = None) -> dict | None:
    """Run the click command that is being executed on its --target; None if that is this machine.

    Every option that the user gave travels along; a `click.Path` is copied to the device. out: where the files go that
    the command writes, for one that has --out. Raises `FedgateError` with what failed there, or on the way.
    """
    context = click.get_current_context()
    request = request_of(context, out)
    target = open_target(context.params["target"], context.params["python"])
    if target is None:
        if any(isinstance(value, str) and value.startswith(ON_DEVICE) for _, value in request.given):
            raise UsageError(f"{ON_DEVICE}PATH is a place on a device: name that with --target")
        return None
    with target:
        return target.run(request)
