"""What the command line knows, asked of click itself: commands, their options, and whether words fit them."""

import functools
import re

import click
from pages import ROOT

from fedgate.cli import cli

FOREIGN = {"--no-compile"}  # options of other programs that the pages name: pip's


@functools.cache
def command_tree() -> dict[tuple[str, ...], click.Command]:
    """Every command by its words: () is fedgate itself."""
    found = {(): cli}
    for name in cli.list_commands(click.Context(cli)):
        found[name,] = command = cli.get_command(click.Context(cli), name)
        if isinstance(command, click.Group):
            found |= {(name, sub): command.commands[sub] for sub in command.commands}
    return found


def resolve(words) -> tuple[click.Command, tuple[str, ...], tuple[str, ...]] | None:
    """The command that words call, its name and the words behind it; None where there is no such command."""
    tree = command_tree()
    for length in (2, 1, 0):
        name = tuple(words[:length])
        if len(name) == length and name in tree:
            if isinstance(tree[name], click.Group) and len(words) > length and not words[length].startswith("-"):
                return None
            return tree[name], name, tuple(words[length:])
    return None


def option_names(command: click.Command) -> set[str]:
    context = click.Context(command)
    return {name for param in command.get_params(context) for name in (*param.opts, *param.secondary_opts)}


@functools.cache
def all_options() -> frozenset[str]:
    """The options of all commands and all benchmarks."""
    names = {name for command in command_tree().values() for name in option_names(command)}
    for path in (ROOT / "benchmarks").iterdir():
        if path.suffix == ".py" or (path / "__main__.py").is_file():
            names |= script_options(f"benchmarks/{path.name}")
    return frozenset(names | FOREIGN)


@functools.cache
def script_options(script: str) -> frozenset[str]:
    """The options that a benchmark, a file or a folder, declares; read from its source: importing it takes seconds."""
    shared = ("common", "kept_runs", "result_file")  # modules with options that several scripts have
    path = ROOT / script
    files = [path] if path.is_file() else sorted(path.glob("*.py"))
    texts = [file.read_text() for file in (*files, *(ROOT / "benchmarks" / f"{name}.py" for name in shared))]
    return frozenset(re.findall(r"--[a-z][a-z-]*", " ".join(re.findall(r'"(--[^"]+)"', " ".join(texts)))))


def parse_problem(words) -> str | None:
    """Why click would not take these words, as far as that can be told without running anything; None if it would."""
    found = resolve(words)
    if found is None:
        return "no such command"
    command, name, rest = found
    context = click.Context(command, info_name=" ".join(name))
    try:
        values, extra, _ = command.make_parser(context).parse_args(list(rest))
    except click.ClickException as error:
        return error.format_message()
    if isinstance(command, click.Group):
        return None if rest else "a command is missing"
    if extra:
        return f"too many arguments: {' '.join(extra)}"
    if "--help" in rest:
        return None
    for param in command.get_params(context):
        value = values.get(param.name)
        if isinstance(param.type, click.Path) and value not in (None, ()):
            continue  # the file need not be there
        if param.required and value in (None, ()):
            return f"{param.get_error_hint(context)} is missing"
        each = value if param.multiple or param.nargs != 1 else (value,)
        for item in each if isinstance(value, str | list | tuple) else ():
            try:
                param.type.convert(item, param, context)
            except click.ClickException as error:
                return error.format_message()
    return None
