"""The options as a page: `python -m fedgate.train.config.table > docs/options.md`."""

from .declare import declared, flag, kind, shown
from .options import TrainConfig

TITLE = """# Options of training

What `fedgate train` takes, and what a `--config` file may hold, there without `--`. What they mean together:
[training](training.md), [gates](gates.md), [clients that differ](clients.md). This page is
written by `python -m fedgate.train.config.table`, from the same declarations as `--help`.
"""


def page() -> str:
    """The page as Markdown: a table for each heading of `--help`."""
    parts, groups = [TITLE], {}
    for name, (field, about) in declared(TrainConfig).items():
        groups.setdefault(about.group, []).append(row(name, field, about))
    for group, rows in groups.items():
        parts.append(
            f"## {group}\n\n| option | default | values | what |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"
        )
    return "\n".join(parts)


def row(name, field, about) -> str:
    known = ", ".join(about.choices) if about.choices else values(field, about)
    default = "" if field.default is None else f"`{shown(field.default)}`"
    return f"| `{flag(name)}` | {default} | {known} | {about.help} |".replace("<", "&lt;")


def values(field, about) -> str:
    """What may stand for a value, where it is no choice among names."""
    what = kind(field)
    if about.low is not None:
        return f"{about.low:,g} to {about.high:,}" if what is int else f"{about.low:g} to {about.high:g}"
    return "on, off" if what is bool else (about.metavar or "").replace("|", "\\|")


if __name__ == "__main__":
    print(page(), end="")
