"""The programs that a runtime cannot have: each is left out of a bundle with its reason, and the others are made."""

import contextlib

from fedgate.device_runtime.errors import FedgateError, UsageError

from .check import MismatchError


class LeftOut:
    """Notes of one export. console: where they are told; notes: a list that gets {"program", "reason"} of each."""

    def __init__(self, console, notes=None):
        self.console, self.notes = console, [] if notes is None else notes

    @property
    def files(self):
        return {note["program"] for note in self.notes}

    @contextlib.contextmanager
    def unless_possible(self, file):
        """Leave a program out if making or running it fails, but not if what it computes is wrong."""
        try:
            yield
        except (MismatchError, UsageError, MissingError):
            raise
        except Exception as error:  # of a converter or a runtime, each of which has its own kinds
            self.add(file, error)

    def add(self, file, error):
        reason = " ".join(str(error).split()) or type(error).__name__
        if not isinstance(error, FedgateError):
            reason = f"{type(error).__name__}: {reason}"
        reason = reason if len(reason) <= 300 else f"{reason[:300]} ..."
        self.notes.append({"program": file, "reason": reason})
        self.console.print(f"no {file}: {reason}")

    def refuse_nothing(self, programs):
        """Raise a `FedgateError` where no program is left."""
        if not programs:
            first = self.notes[0]
            raise FedgateError(f"no program could be made; {first['program']}: {first['reason']}")


class MissingError(FedgateError):
    """A package that lowers to a runtime is not installed: somebody asked for that runtime, and can install it."""
