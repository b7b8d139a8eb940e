"""The tables of README and docs/: a function for each, from the rows of results in benchmarks/results/ to cells.

    @table("train_step")
    def training_step(rows):
        yield "runtime", "to eager PyTorch"
        for row in rows:
            yield row["runtime"], f"{row['ratio_to_eager']:.2f}"

Its arguments are the rows of the results that the decorator names; the first line that it yields are the heads of the
columns. In a page, or in several, it stands where these lines are:

    <!-- table: training-step -->
    <!-- end -->

`python benchmarks/readme.py` writes it between them. A `listing` returns the text of a code block.
"""

import importlib
import pkgutil
from collections.abc import Callable
from typing import NamedTuple


class Made(NamedTuple):
    """What is made of some results: `function` takes the rows of each and returns Markdown."""

    results: tuple[str, ...]
    function: Callable


REGISTERED: dict[tuple[str, str], Made] = {}  # ("table" or "listing", name)
RUNTIMES = {"executorch": "ExecuTorch", "litert": "LiteRT", "onnx": "ONNX Runtime"}


def table(*results):
    """Register a function that yields rows of cells, the heads first."""
    return register("table", results, as_table)


def listing(*results):
    """Register a function that returns the text of a code block."""
    return register("listing", results, lambda text: f"```\n{text.rstrip()}\n```\n")


def register(kind, results, markdown):
    def add(function):
        key = kind, function.__name__.replace("_", "-")
        if key in REGISTERED:
            raise ValueError(f"two functions make the {' '.join(key)}")
        REGISTERED[key] = Made(results, lambda *rows: markdown(function(*rows)))
        return function

    return add


def as_table(rows):
    """A Markdown table of rows of cells, the heads first."""
    heads, *lines = rows
    if any(len(line) != len(heads) for line in lines):
        raise ValueError(f"a row has another number of cells than the heads {heads}")
    head, *body = (f"| {' | '.join(line)} |\n" for line in (heads, *lines))
    return "".join([head, f"|{'---|' * len(heads)}\n", *body])


def registered():
    """All of REGISTERED, after the modules here are imported."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return REGISTERED


def where(rows, **facts):
    """The one row that has these facts."""
    found = [row for row in rows if all(row[key] == value for key, value in facts.items())]
    if len(found) != 1:
        raise LookupError(f"{len(found)} rows have {facts}")
    return found[0]


def both(values, form=".1f"):
    """The figures of two seeds, or of more: `1.8 and 0.8`."""
    return " and ".join(format(value, form) for value in values)


def spread(values, form=".1f"):
    """Their mean, and from the lowest to the highest."""
    return f"{sum(values) / len(values):{form}} ({min(values):{form}} to {max(values):{form}})"
