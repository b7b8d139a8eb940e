"""What a device answers to a command: the JSON document that the command prints, checked before it is shown."""

import signal

from ..errors import FedgateError, UsageError
from ..formats.checks import parse_json
from ..text import printable

# the lists that a command's document has
LISTS = {"verify": ("programs",), "bench": ("rows", "skipped", "warnings")}


def parse_result(command: str, status: int, output: str, last_line: str, name: str) -> dict:
    """The document that a command printed on the device `name`.

    Raises the error with which it ended there: `UsageError` for exit status 2, else `FedgateError`. A `verify` that
    found a mismatch has printed it, and its document is returned.
    """
    if status != 0 and not (command == "verify" and output.strip()):
        raise failure(status, last_line, name)
    return check_result(command, parse_json(output, f"what {command} printed on {name}"), name)


def failure(status: int, last_line: str, name: str) -> FedgateError:
    """The error of a command that ended there with this status (negative: a signal) and last line on stderr."""
    if status < 0:
        which = {number.value: number.name for number in signal.Signals}.get(-status, f"signal {-status}")
        memory = "; it may have run out of memory" if -status == signal.SIGKILL else ""
        return FedgateError(f"{name}: the command was killed by {which}{memory}")
    kind = UsageError if status == 2 else FedgateError
    return kind(f"{name}: {last_line.removeprefix('fedgate: ') or f'the command ended with status {status}'}")


def check_result(command: str, value, name: str) -> dict:
    """The document with its texts made printable. Raises `FedgateError` where it is not one of this command."""
    lists = LISTS.get(command, ())
    if not isinstance(value, dict) or not all(isinstance(value.get(key), list) for key in lists):
        raise FedgateError(f"{name} answered {command} with something that is no result of it")
    return cleaned(value)


def cleaned(value):
    """A JSON value whose texts and keys do nothing to a terminal."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return [cleaned(item) for item in value]
    if isinstance(value, dict):
        return {printable(key): cleaned(item) for key, item in value.items()}
    return value
