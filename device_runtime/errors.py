"""The two errors that a user meets: one clear line each, and the exit status that the command line gives."""


class FedgateError(Exception):
    """Something outside the program is wrong: a file, a device, a peer. The message says what and what to do."""

    exit_status = 1


class UsageError(FedgateError):
    """The request itself is wrong: an unknown name, a value out of range, options that contradict each other."""

    exit_status = 2


def choose(kind: str, name: str, known) -> None:
    """Raise a `UsageError` that lists the known names unless `name` is one of them."""
    if name not in known:
        raise UsageError(f"unknown {kind} '{name}'; known: {', '.join(known)}")
