"""Python processes that we start to try something out, and how they ended."""

import os
import signal
import sys


def python_command(module: str) -> list[str]:
    """The command that runs a module of this package with this Python; arguments follow.

    `-m` would look for modules in the working folder first: only where this process does so too.
    """
    here = "" in sys.path or os.getcwd() in sys.path
    return [sys.executable, *([] if here else ["-P"]), "-m", f"{__package__}.{module}"]


def how_it_ended(status: int) -> str:
    """An exit status as `subprocess` gives it, in words: the signal's name where it was one."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
