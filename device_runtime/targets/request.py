"""A command that is to run on another machine, and the options by which a user says on which one."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click

ON_DEVICE = "device:"


class InputPath(click.Path):
    """A file or folder here, copied to the target; or device:PATH, one that is on the target already."""

    def __init__(self):
        super().__init__(exists=True)

    def convert(self, value, param, ctx):
        if isinstance(value, str) and value.startswith(ON_DEVICE):
            return value
        return super().convert(value, param, ctx)


def target_options(command):
    """Add --target and --python to a command, whose body then calls `elsewhere`."""
    target = click.option(
        "--target",
        default="local",
        show_default=True,
        metavar="WHERE",
        help="Where to run: local, ssh:[USER@]HOST[:PORT], adb:SERIAL, or emulated:cortex-a72 or cortex-a76.",
    )
    python = click.option(
        "--python",
        default="python3",
        show_default=True,
        envvar="FEDGATE_TARGET_PYTHON",
        metavar="PATH",
        help="The Python of an ssh target, as from its home folder: venv/bin/python.",
    )
    return target(python(command))


@dataclass(frozen=True)
class Request:
    """One command for a target.

    options: every option by its parameter's name, as the command got it. given: (flag, value) of those that the user
    set; True for a flag alone, a `Path` for a file or folder that has to be copied. out: the folder here for what
    the command writes, where it has an --out.
    """

    command: str
    bundle: Path
    options: Mapping[str, object]
    given: tuple[tuple[str, object], ...]
    out: Path | None = None

    def inputs(self) -> list[Path]:
        """The files and folders that the options name here."""
        return [value for _, value in self.given if isinstance(value, Path)]

    def words(self, place: Mapping[Path, str]) -> list[str]:
        """The options as a command line, each with its value in one word so that no value is taken for an option.

        place: where each of `inputs` is on the target.
        """
        words = []
        for flag, value in self.given:
            if value is True:
                words.append(flag)
            else:
                text = place[value] if isinstance(value, Path) else str(value).removeprefix(ON_DEVICE)
                words.append(f"{flag}={text}")
        return words


def request_of(context: click.Context, out: Path | None = None) -> Request:
    """The request that a command's own click context describes; it has `target_options` and an argument `bundle`.

    out: where what it writes goes here; its own --out is not among the options.
    """
    local = {"target", "python", "as_json", "bundle", "out", "key"}  # a key stays here
    options = {name: value for name, value in context.params.items() if name not in local}
    given = []
    for parameter in context.command.params:
        value = options.get(parameter.name)
        source = context.get_parameter_source(parameter.name)
        if value is None or source is click.core.ParameterSource.DEFAULT:
            continue
        flag, negative = max(parameter.opts, key=len), parameter.secondary_opts
        if isinstance(value, bool):
            given += [(flag, True)] if value else [(negative[0], True)] if negative else []
            continue
        for item in value if isinstance(value, tuple) else (value,):
            here = isinstance(parameter.type, click.Path) and not str(item).startswith(ON_DEVICE)
            given.append((flag, Path(item) if here else item))
    return Request(context.command.name, Path(context.params["bundle"]), options, tuple(given), out)
