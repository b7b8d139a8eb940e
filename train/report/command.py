"""`fedgate report`: histories and measurements in, one page (and the figures as files) out."""

from dataclasses import dataclass
from pathlib import Path

from rich.markup import escape

from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.storage import write_file
from fedgate.device_runtime.tables import console, table

from .curves import accuracy_plots, client_plot, round_plots
from .heatmaps import channel_plots, class_plots
from .history import History, printable, read_history
from .page import render
from .style import png_bytes, styled, svg_bytes
from .summary import default_target, keys, summarise
from .text import percent, quantity

NO_CLOCKS = "There is no figure of accuracy against simulated time: no run has simulated clocks."
SHORT = 24  # characters of a run's name in figures


@dataclass(frozen=True, eq=False)
class ReportedRun:
    """A run's place in the report: its number, its letter, and what is known of it."""

    index: int
    key: str
    history: History

    @property
    def label(self):
        """The run in figures."""
        return f"{self.key} {printable(self.history.name, SHORT)}"


def write_report(paths, out, figures=None, target=None, evaluated=True, own_code=False):
    """Write the page that compares the runs in `paths`; returns its summary, ready for JSON.

    figures: a folder for SVG and PNG files of every figure. target: see `fedgate report --help`. evaluated: run the
    models on their test sets. own_code: also those whose network is a file of code.
    """
    out = Path(out)
    histories = [read_history(path) for path in paths]
    runs = [ReportedRun(i, key, h) for i, (key, h) in enumerate(zip(keys(len(paths)), histories, strict=True))]
    make_folder(out.parent)
    if out.is_dir():
        raise FedgateError(f"cannot write {out}: it is a folder")
    if figures is not None:
        make_folder(Path(figures))
    target = default_target(histories) if target is None else target
    measured = measure_all(runs, paths, own_code) if evaluated else {}
    worst = [measured[run].worst_decile if evaluated else None for run in runs]
    summaries = [summarise(run.key, run.history, target, low) for run, low in zip(runs, worst, strict=True)]
    with styled():
        sections = make_sections(runs, measured, target)
        notes = collect_notes(runs, measured, evaluated)
        images = {plot.name: svg_bytes(plot.figure) for _, _, plots, _ in sections for plot in plots}
        page = render(runs, summaries, target, notes, sections, images)
        if figures is not None:
            for plot in (plot for _, _, plots, _ in sections for plot in plots):
                write_file(Path(figures) / f"{plot.name}.svg", images[plot.name])
                write_file(Path(figures) / f"{plot.name}.png", png_bytes(plot.figure))
    write_file(out, page.encode())
    return {
        "report": str(out),
        "figures": None if figures is None else str(figures),
        "target": target,
        "runs": [
            {"path": run.history.path} | summary.to_json() | {"notes": notes.get(run.key, [])}
            for run, summary in zip(runs, summaries, strict=True)
        ],
    }


def measure_all(runs, paths, own_code):
    """What each run's model does with its test set, by run."""
    from .measure import Measurer  # torch, which the rest does not need

    measurer = Measurer(own_code)
    with console(stderr=True).status("") as status:
        measured = {}
        for run, path in zip(runs, paths, strict=True):
            status.update(f"evaluating {escape(run.label)}")
            measured[run] = measurer.measure(path)
    return measured


def make_sections(runs, measured, target):
    """The figures in the order of the page: (id, heading, plots, what is missing); a section may have no plots."""
    tables = {run: found.table for run, found in measured.items() if found.table is not None}
    untimed = not any(row.simulated_seconds for run in runs for row in run.history.rounds)
    accuracies = {run: found.client_accuracy for run, found in measured.items() if found.client_accuracy is not None}
    by_round = round_plots(runs)
    sent = [plot for plot in by_round if plot.name.startswith("bytes-")]
    gates = [plot for plot in by_round if plot not in sent]
    channels = [plot for run, found in measured.items() for plot in channel_plots(run, found)]
    return [
        ("accuracy", "Accuracy", accuracy_plots(runs, target), NO_CLOCKS if untimed else ""),
        ("communication", "Communication", sent, ""),
        ("clients", "Clients", client_plot(runs, accuracies) + class_plots(runs, tables), ""),
        ("gates", "Gates", gates + channels, ""),
    ]


def collect_notes(runs, measured, evaluated):
    """What a reader must know before believing the page: lines by run key; "" holds those about all runs."""
    notes = {run.key: list(run.history.notes) for run in runs}
    for run, found in measured.items():
        notes[run.key] += [printable(note, 300) for note in found.notes]
    common = []
    if len({run.history.data_hash for run in runs}) > 1:
        common.append("The runs were not trained and tested on the same data: their accuracies cannot be compared.")
    if not evaluated:
        common.append("Made without a pass over the test sets: no accuracy by client, no classes, no channels.")
    return {"": common} | notes


def make_folder(path):
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FedgateError(f"cannot make the folder {path}: {error.strerror or error}") from error


def print_summaries(result):
    """Print what `write_report` returned."""
    target = result["target"]
    columns = ("rounds", "final", "best", "bytes", *(("rounds to", "bytes to") if target else ()))
    title = f"target accuracy {percent(target)}" if target else None
    made = table("", "run", *columns, title=title, right=len(columns))
    for row in result["runs"]:
        cells = [
            str(row["rounds"]),
            *("-" if row[key] is None else f"{100 * row[key]:.2f} %" for key in ("final", "best")),
            "-" if row["bytes"] is None else quantity(row["bytes"], "bytes"),
        ]
        if target:
            cells.append("-" if row["target_round"] is None else str(row["target_round"]))
            cells.append("-" if row["target_bytes"] is None else quantity(row["target_bytes"], "bytes"))
        made.add_row(row["key"], row["name"], *cells)
    out = console()
    out.print(made)
    for row in result["runs"]:
        for note in row["notes"]:
            out.print(f"{row['key']}: {note}", soft_wrap=True)
    out.print(result["report"] + (f" and {result['figures']}/" if result["figures"] else ""), soft_wrap=True)
