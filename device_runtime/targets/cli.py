"""`fedgate deploy`: a bundle brought to a device, with what runs it there."""

import json
import shlex

import click

from .request import target_options


@click.command()
@click.argument("bundle", metavar="NAME.fedgate")
@target_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def deploy(bundle, target, python, as_json):
    """Copy a bundle to a device, and our code and kernel that run it there; repeated, only what is missing.

    An ssh device needs a Python with a runtime, a phone fedgate's app. Commands with a --target do this by themselves.

    \b
    Example:
      fedgate deploy first.fedgate --target ssh:pi@raspberrypi --python venv/bin/python
    """
    from ..errors import UsageError
    from ..text import say
    from . import open_target

    device = open_target(target, python)
    if device is None:
        raise UsageError("name the device with --target ssh:[USER@]HOST[:PORT] or adb:SERIAL")
    with device:
        there = device.deploy(bundle)
    if as_json:
        click.echo(json.dumps(there, indent=1))
        return
    runtimes = f", runtimes: {', '.join(there['runtimes'])}" if "runtimes" in there else ""
    say(f"{there['target']}: {there['machine']}{runtimes}")
    say(f"sent {there['sent_bytes'] / 1e6:.1f} MB; the bundle is {there['bundle']}")
    if there.get("without_skip"):
        say(f"without skip programs: {there['without_skip']}")
    if "code" in there:
        say(f"by hand there: {by_hand(there)}")


def by_hand(there: dict) -> str:
    """The command line that verifies the bundle on the device itself."""
    settings = ["PYTHONSAFEPATH=1", f"PYTHONPATH={there['code']}"]  # whatever lies where the user stands
    settings += [f"FEDGATE_KERNELS={there['kernels']}"] if there["kernels"] else []
    return shlex.join(["env", *settings, there["python"], "-m", "fedgate", "verify", there["bundle"]])
