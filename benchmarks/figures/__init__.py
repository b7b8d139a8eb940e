"""What README and docs/ say about the results in benchmarks/results/: the phrases, with places for their figures.

A module here has functions that take the rows of one or more results and yield phrases, each a text as it stands in a
page, with a place for each measured figure, and those figures:

    @of("train_step")
    def train_step(rows):
        litert, executorch = (row["ratio_to_eager"] for row in rows)
        yield "LiteRT {:.2f}, ExecuTorch {:.2f}", litert, executorch

A whole table is a phrase as well. Line breaks and ** around a figure are the page's. `benchmarks/readme.py` compares
the pages with the results, or writes the figures into them.
"""

import importlib
import pkgutil

PHRASES = {}  # the names of results -> the function that takes their rows


def of(*names):
    """Register a function of the rows of some results: its arguments are in the order of `names`."""

    def register(function):
        PHRASES[names] = function
        return function

    return register


def where(rows, **facts):
    """The one row that has these facts."""
    found = [row for row in rows if all(row[key] == value for key, value in facts.items())]
    if len(found) != 1:
        raise LookupError(f"{len(found)} rows have {facts}")
    return found[0]


def registered():
    """All of PHRASES, after its modules are imported."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return PHRASES
