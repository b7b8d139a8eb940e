"""What the commands print for people: rich tables on stdout."""

import sys
from collections.abc import Sequence

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .board.report import board_lines, sustained_lines
from .text import printable

BARS = "·▁▂▃▄▅▆▇█"  # from none to all
ASCII_BARS = ".:-=+*#%@"


class PlainConsole(Console):
    """Text is text, whoever wrote it: no markup, no emoji codes, and what is not printable is escaped.

    So a line is a call of `print`: a line end inside of a text is escaped too, and a long line is not folded.
    """

    def __init__(self, **options):
        super().__init__(markup=False, highlight=False, emoji=False, **options)

    def print(self, *objects, **options):
        lines = all(isinstance(item, str) for item in objects)
        super().print(*objects, **({"soft_wrap": True} | options if lines else options))

    def render_str(self, text, **options):
        return super().render_str(printable(text), **options)

    def status(self, status, **options):
        return super().status(Text(printable(status)), **options)  # of a str rich would read the markup even here


def console(stderr: bool = False, quiet: bool = False) -> PlainConsole:
    """Where all that is for people goes. Piped output is wide, so that no cell is folded."""
    width = None if (sys.stderr if stderr else sys.stdout).isatty() else 200
    return PlainConsole(stderr=stderr, quiet=quiet, width=width)


def table(*columns: str, title: str | None = None, right: int = 0) -> Table:
    """A table whose last `right` columns are numbers."""
    made = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    made.show_header = any(columns)
    for index, column in enumerate(columns):
        made.add_column(column, justify="right" if index >= len(columns) - right else "left")
    return made


def print_summary(summary: dict) -> None:
    out = console()
    facts = table("", "", title=f"{summary['model']}, gate {summary['gate']}, width {summary['width']:g}")
    facts.add_row("dataset", f"{summary['dataset']}, {len(summary['labels'])} classes")
    facts.add_row("input", " x ".join(map(str, summary["input"]["shape"])) + " (NCHW)")
    default = summary["default_level"]
    facts.add_row(
        "densities", ", ".join(f"{d:g}{' *' if i == default else ''}" for i, d in enumerate(summary["densities"]))
    )
    if summary["masks"] is not None:
        facts.add_row("static masks", f"of {summary['masks']}")
    for scope, samples in summary["salience"].items():
        facts.add_row(f"salience of {scope}", f"{sum(samples)} samples")
    for key, value in summary["training"].items():
        facts.add_row(key, str(value))
    out.print(facts)
    programs = table("program", "runtime", "role", "density", "kernel", "sha256", "bytes", right=1)
    left = {}
    for program in summary["programs"]:
        density = "" if program["level"] is None else f"{summary['densities'][program['level']]:g}"
        kernel = f"for {len(program['kernel_layers'])} layers" if program["needs_kernel"] else ""
        if program["needs_kernel"]:
            convolutions = [layer["name"] for layer in summary["layers"] if layer["kind"] == "conv"]
            left[program["file"]] = [name for name in convolutions if name not in program["kernel_layers"]]
        programs.add_row(
            program["file"],
            program["runtime"],
            program["role"],
            density,
            kernel,
            program["sha256"][:12],
            f"{program['bytes']:,}",
        )
    out.print(programs)
    for file, names in left.items():
        if names:
            out.print(f"{file} leaves to stock operators, dense with masks: {', '.join(names)}")
            out.print()
    heads = [f"at {density:g}" for density in summary["densities"]]
    layers = table("layer", "channels", "gate", "dense MACs", *heads, right=1 + len(heads))
    for layer in summary["layers"]:
        numbers = [f"{count:,}" for count in (layer["dense_macs"], *layer["nominal_macs"])]
        layers.add_row(layer["name"], "{} > {}".format(*layer["channels"]), "yes" if layer["gate"] else "", *numbers)
    layers.add_section()
    layers.add_row("all", "", "", *[f"{n:,}" for n in (summary["dense_macs"], *summary["nominal_macs"])])
    layers.add_row("share of dense", "", "", "1", *[f"{share:.3f}" for share in summary["share_of_dense"]])
    out.print(layers)


def print_verification(rows: list[dict]) -> None:
    made = table("program", "result", "compared", "max error", "close calls", "", right=0)
    for row in rows:
        error = "" if row["max_error"] is None else f"{row['max_error']:.1e}"
        calls = f"{row['close_calls']} of {row['decisions']}" if row["decisions"] else ""
        compared = f"{row['compared']} of {row['runs']}" if row["runs"] else ""
        made.add_row(row["file"], row["status"], compared, error, calls, row["reason"] or "")
    console().print(made)


def print_predictions(result: dict) -> None:
    out = console()
    bars = BARS if out.encoding.startswith("utf") else ASCII_BARS  # as rich chooses the lines of its tables
    density = "" if result["density"] is None else f", density {result['density']:g}"
    out.print(f"{result['model']}, {result['program']} ({result['runtime']} {result['role']}{density})")
    for image in result["images"]:
        out.print()
        out.print(
            f"{image['image']}: {image['class']} ({image['probability']:.1%}), "
            f"its masks ask for {image['asked_macs']:,} MACs, {image['asked_share_of_dense']:.1%} of dense"
        )
        if image["layers"]:
            made = table("layer", "open", "channels")
            for layer in image["layers"]:
                bar = strip(layer["open"], layer["channels"], bars=bars)
                made.add_row(layer["layer"], f"{len(layer['open'])}/{layer['channels']}", bar)
            out.print(made)


def print_bench(result: dict) -> None:
    out = console()
    facts = [_fact(key, value) for key, value in result["machine"].items() if value and not isinstance(value, list)]
    out.print(", ".join(facts))
    if "board" in result:  # an Android app's results have none
        for line in board_lines(result["machine"], result["board"]):
            out.print(line, soft_wrap=True)
    made = table(
        *("program", "runtime", "role", "density", "p50 ms", "p90 ms", "ratio to dense (95 %)"),
        *("MACs asked", "executed", "load ms", "first ms", "peak MB"),
        title=f"batch 1, {result['rows'][0]['threads']} thread(s), {result['rows'][0]['rounds']} rounds",
        right=8,
    )
    for row in result["rows"]:
        ratio = ""
        if row["ratio_to_dense"] is not None:
            ratio = f"{row['ratio_to_dense']:.3f} ({row['ratio_low']:.3f} to {row['ratio_high']:.3f})"
        made.add_row(
            row["program"],
            row["runtime"],
            row["role"],
            "" if row["density"] is None else f"{row['density']:g}",
            f"{row['p50_ms']:.3f}",
            f"{row['p90_ms']:.3f}",
            ratio,
            share(row["asked_macs"], row["dense_macs"]),
            share(row["executed_macs"], row["dense_macs"]),
            f"{row['load_ms']:.1f}",
            f"{row['first_ms']:.2f}",
            f"{row['peak_rss_mb']:.0f}",
        )
    out.print(made)
    for entry in result.get("sustained", ()):
        for line in sustained_lines(entry):
            out.print(line, soft_wrap=True)
    for entry in result["skipped"]:
        out.print(f"skipped {entry['program']}: {entry['reason']}")
    for warning in result["warnings"]:
        out.print(f"not to be trusted: {warning}")


def print_counts(result: dict) -> None:
    out = console()
    out.print(", ".join(value for value in result["machine"].values() if value))
    made = table(
        *("program", "runtime", "role", "density", "instructions", "ratio to dense", "vector FMAs"),
        *("other FMAs", "MACs asked", "executed"),
        title=f"executed by an inference, batch 1, one thread, mean of {result['rows'][0]['inferences']}: "
        "counts of an emulated CPU, NOT a latency",
        right=6,
    )
    for row in result["rows"]:
        made.add_row(
            row["program"],
            row["runtime"],
            row["role"],
            "" if row["density"] is None else f"{row['density']:g}",
            f"{row['instructions']:,}",
            "" if row["ratio_to_dense"] is None else f"{row['ratio_to_dense']:.3f}",
            f"{row['vector_fma']:,}",
            f"{row['fma_2_lanes'] + row['fma_scalar']:,}",
            share(row["asked_macs"], row["dense_macs"]),
            share(row["executed_macs"], row["dense_macs"]),
        )
    out.print(made)
    for entry in result["skipped"]:
        out.print(f"skipped {entry['program']}: {entry['reason']}")


def share(macs: int, dense: int) -> str:
    """A count of MACs as a share of the dense network's."""
    return f"{macs / dense:.1%}" if dense else ""


def _fact(key: str, value) -> str:
    """A number needs its name; a text tells what it is."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return key
    return f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"


def strip(open: Sequence[int], channels: int, cells: int = 64, bars: str = BARS) -> str:
    """A bar of at most `cells` characters; each shows by its height the open share of its group of channels."""
    mask = np.zeros(channels)
    mask[list(open)] = 1
    groups = np.array_split(mask, min(cells, channels))
    return "".join(bars[int(np.ceil(group.mean() * 8))] for group in groups)
