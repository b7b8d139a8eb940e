"""Options of `fedgate train` from a TOML file or a preset, and a configuration as such a file.

A file's keys are the names of the options, with dashes or underscores; lists stand for lists with commas. Its values go
through the same checks as those of the command line: they are handed to click as its defaults.
"""

import difflib
import json
import math
import tomllib
from dataclasses import asdict

from fedgate.device_runtime.errors import UsageError, choose
from fedgate.device_runtime.storage import read_file

from .presets import PRESETS

HERE_ONLY = ("config", "print_config", "help")  # options that mean nothing inside a file


def config_callback(ctx, param, path):
    """Of --config: a file's options become the command's defaults, above those of a preset."""
    if path is not None:
        ctx.default_map = (ctx.default_map or {}) | named_options(ctx, read_options(path), path)
    return path


def preset_callback(ctx, param, name):
    """Of --preset: its options become the command's defaults, below those of a file."""
    if name is not None:
        choose("preset", name, PRESETS)
        ctx.default_map = named_options(ctx, PRESETS[name].options, name) | (ctx.default_map or {})
    return name


def named_options(ctx, options, where):
    """`options`, by key, as the defaults of a command: parameter -> words as on the command line.

    where: what an error names. Raises `UsageError` for an unknown key (it lists the nearest), one that is given twice,
    or a value of no option's kind.
    """
    params = {param.name: param for param in ctx.command.params if param.name not in HERE_ONLY}
    words = {}
    for key, value in options.items():
        name = key.replace("-", "_")
        if name not in params:
            raise UsageError(f"{where}: unknown option '{key}'{nearest(key, params.values())}")
        if name in words:
            raise UsageError(f"{where}: '{key}' is given twice, with dashes and with underscores")
        words[name] = as_words(value, params[name], f"{where}: '{key}'")
    return words


def nearest(key, params):
    """The end of an error about an unknown option: the names that are like it, or whose help speaks of it."""
    key = key.replace("_", "-").lower()
    names = {param.name.replace("_", "-"): (param.help or "").lower() for param in params}
    found = difflib.get_close_matches(key, names, n=3)
    found += [name for name, text in names.items() if key.replace("-", " ") in text and name not in found]
    return f"; nearest: {', '.join(found[:4])}" if found else "; known: see fedgate train --help"


def as_words(value, param, where):
    """A TOML value as the command line would have it, for click to check."""
    items = value if isinstance(value, list) else [value]
    if any(isinstance(item, dict | list) for item in items):
        raise UsageError(f"{where} is no value of an option: options stand at the top level of the file, not in tables")
    if isinstance(value, bool):
        return value if getattr(param, "is_flag", False) else str(value)
    if param.multiple:
        return [str(item) for item in items]
    return ",".join(map(str, items))


def read_options(path):
    """The options of a TOML file, by key. Raises `FedgateError` if it cannot be read, `UsageError` if it is no TOML."""
    try:
        return tomllib.loads(read_file(path).decode("utf-8"))
    except (ValueError, RecursionError) as error:  # not UTF-8, or not TOML
        raise UsageError(f"{path} is not valid TOML: {error}") from error


def render_options(config, params, notes=()):
    """A `TrainConfig` as TOML text that reads back to it.

    params: the command's, whose headings become comments; notes: lines of comment at the top. Fields that are None are
    left out.
    """
    lines, fields, title = [f"# {note}" for note in notes], asdict(config), None
    for param in params:
        value = fields.pop(param.name, None)
        if value is None:
            continue
        if param.heading != title:
            title = param.heading
            lines += ["", f"# {title}"]
        lines.append(f"{param.name.replace('_', '-')} = {toml_value(value)}")
    assert not any(value is not None for value in fields.values()), f"no option for {sorted(fields)}"
    return "\n".join(lines).strip() + "\n"


def toml_value(value):
    """One value as TOML: its strings are JSON's, and its characters written as they are where they can be printed."""
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, str):
        return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in json.dumps(value, ensure_ascii=False))
    if isinstance(value, bool):
        return str(value).lower()
    assert isinstance(value, int) or math.isfinite(value)
    return repr(value)
