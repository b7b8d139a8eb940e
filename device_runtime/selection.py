"""Which of a bundle's programs a command runs, and the options by which a user says so."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, fields

import click

from .formats.roles import INFERENCE_ROLES
from .runtime_option import runtime_option


@dataclass(frozen=True)
class Selection:
    """What is asked for of programs for inference; None: any of them, and of `level` and `density` the bundle's own."""

    runtime: str | None = None
    role: str | None = None
    level: int | None = None
    density: float | None = None

    @classmethod
    def of(cls, options: Mapping[str, object]) -> "Selection":
        """That of a command's options, by their names."""
        return cls(**{name: options[name] for name in NAMES})


ANY = Selection()
NAMES = tuple(field.name for field in fields(Selection))
OPTIONS = (
    runtime_option("executorch, litert or onnx; default: all that are installed."),
    click.option("--role", metavar="NAME", help=f"{', '.join(INFERENCE_ROLES[:-1])} or {INFERENCE_ROLES[-1]}."),
    click.option("--level", type=int, help="Index of the density; default: the bundle's own."),
    click.option("--density", type=float, help="The density itself, instead of --level."),
)


def selection_options(command):
    """Decorator: a command with these options, which gets them as one `Selection`, `chosen`."""

    @functools.wraps(command)
    def with_selection(**given):
        return command(chosen=Selection(**{name: given.pop(name) for name in NAMES}), **given)

    for option in reversed(OPTIONS):
        with_selection = option(with_selection)
    return with_selection
