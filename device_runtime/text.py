"""Text that somebody else wrote (paths, names of classes, what a device says), on its way to a terminal."""

import logging

import click

from .errors import UsageError

NAMED = 10  # names in one line


def printable(text: str) -> str:
    """A stranger's text without what would act on a terminal: what is not printable is escaped as in Python's strings.

    That is control characters, line ends among them, marks that turn the direction of writing, and the surrogates that
    stand for the bytes of a file name that is not UTF-8.
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def name_some(names: list[str], most: int = NAMED) -> str:
    """The first of some names as `printable` has them, and how many there are."""
    more = f" and {len(names) - most:,} more ({len(names):,} in all)" if len(names) > most else ""
    return ", ".join(map(printable, names[:most])) + more


def check_utf8(what: str, path) -> None:
    """Refuse a path that is not UTF-8, with a `UsageError` that begins with `what`: not every library opens one."""
    if any("\ud800" <= letter <= "\udfff" for letter in str(path)):  # what Python puts in place of other bytes
        raise UsageError(f"{what} '{path}' is not UTF-8: give it another name, or a link to it")


def say(line: str, err: bool = False) -> None:
    """Print one line, on stderr if `err`."""
    click.echo(printable(line), err=err)


class LogFormatter(logging.Formatter):
    """One printable line a record; a traceback follows with lines of its own."""

    def formatMessage(self, record):  # noqa: N802 - logging's name
        return printable(super().formatMessage(record))

    def formatException(self, info):  # noqa: N802
        return "\n".join(map(printable, super().formatException(info).splitlines()))
