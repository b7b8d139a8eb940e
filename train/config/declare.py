"""How an option of `fedgate train` is declared: once, with all that the command line, the checks and the docs need."""

import dataclasses
import types
import typing
from dataclasses import dataclass

import click


@dataclass(frozen=True)
class Option:
    """What an option is beside its type and its default, which its field has.

    group: the heading that it stands under. help: a sentence, without the default. metavar: what stands for a value.
    low, high: the range of a number. noun, choices: what an error calls a value, and those that are known. path: it
    names a file or folder.
    """

    group: str
    help: str
    metavar: str | None = None
    low: float | None = None
    high: float | None = None
    noun: str | None = None
    choices: tuple[str, ...] = ()
    path: bool = False


def option(default, group, help, **more):
    """A dataclass field that is an option; see `Option`."""
    return dataclasses.field(default=default, metadata={"option": Option(group, help, **more)})


def declared(config) -> dict[str, tuple[dataclasses.Field, Option]]:
    """By name, the fields of a configuration that are options, in their order."""
    return {field.name: (field, field.metadata["option"]) for field in dataclasses.fields(config)}


def flag(name):
    """The option of a field: '--batch-size'."""
    return f"--{name.replace('_', '-')}"


def kind(field):
    """The type of a field's values where they are given: int, float, str, bool or tuple."""
    annotation = field.type
    if isinstance(annotation, types.UnionType):
        (annotation,) = (each for each in typing.get_args(annotation) if each is not type(None))
    return typing.get_origin(annotation) or annotation


def shown(default):
    """A default as help and pages show it."""
    if isinstance(default, bool):
        return "on" if default else "off"
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)


def floats(ctx, param, value):
    """A comma-separated list of numbers."""
    try:
        return None if value is None else tuple(float(part) for part in value.split(","))
    except ValueError as error:
        raise click.BadParameter(f"'{value}' is no list of numbers such as 0.25,0.5,1.0") from error


def click_option(field, about):
    """The decorator that adds a field to a command. What is not given is None: the configuration has the defaults."""
    name, what, text = field.name, kind(field), about.help
    if field.default is not None:
        text += f"  [{shown(field.default)}]"
    if what is bool:
        return click.option(f"{flag(name)}/--no-{flag(name)[2:]}", default=None, help=text)
    if what is tuple:
        return click.option(flag(name), callback=floats, metavar=about.metavar, help=text)
    return click.option(flag(name), type=click.Path() if about.path else what, metavar=about.metavar, help=text)
