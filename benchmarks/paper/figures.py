"""A figure for each question: gaps by arm and client, bytes to the target, accuracy against MACs and latency."""

import numpy as np
from matplotlib.figure import Figure
from paper.answers import MARGINS, over_seeds

from fedgate.device_runtime.storage import write_file
from fedgate.train.report.style import COLOURS, MUTED, WIDTH, Plot, line_style, png_bytes, styled, svg_bytes

NAMES = {
    "dense": "dense",
    "paper": "paper gates",
    "fbs": "fbs gates",
    "hidden": "paper gates in blocks",
    "slim": "slim",
    "slim-scale": "slim with scale",
    "narrow": "narrow blocks",
    "narrow-scale": "narrow with scale",
    "static-paper": "static, of paper gates",
    "static-fbs": "static, of fbs gates",
    "static-hidden": "static, of gates in blocks",
}


def gap_plot(rows):
    """Train minus test accuracy, a line an arm: mean, and a dot a seed."""
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    figure, axes = dot_axes(arms, "train - test accuracy, points")
    for place, arm in enumerate(arms):
        mine = [row for row in rows if row["arm"] == arm]
        axes.plot([100 * row["gap"] for row in mine], [place] * len(mine), "o", color=COLOURS[0])
        for row in mine:
            clients = [100 * row[f"client_gap_{end}"] for end in ("low", "high")]
            axes.plot(clients, [place] * 2, color=MUTED, linewidth=0.9, zorder=1)
    told = "; ".join(f"{arm}: {100 * v['gap'][0]:.1f}" for arm, v in over_seeds(rows, "gap").items())
    return Plot(
        "paper-gap",
        "Over-fitting",
        "Accuracy on training images less that on test images; a dot is a seed, a thin line reaches from the client "
        "with the smallest gap to the one with the largest.",
        f"Dot chart of the gap between training and test accuracy in points, mean over the seeds. {told}",
        figure,
    )


def bytes_plot(rows):
    """Bytes to the target to those of dense FedAvg, a line an arm, a dot a seed; open where it never got there."""
    rows = [row for row in rows if row["margin"] == MARGINS[-1]]
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    figure, axes = dot_axes(arms, f"bytes to {MARGINS[-1]:g} points below dense FedAvg, to dense FedAvg's")
    most = max(row["ratio_to_dense"] or 0 for row in rows)
    for place, arm in enumerate(arms):
        for row in (row for row in rows if row["arm"] == arm):
            there = row["ratio_to_dense"] is not None
            x = row["ratio_to_dense"] if there else 1.15 * most
            axes.plot([x], [place], "o" if there else "x", color=COLOURS[0] if there else MUTED)
    axes.axvline(1, color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)))
    axes.set_xlim(0, 1.25 * most)
    never = sum(row["ratio_to_dense"] is None for row in rows)
    return Plot(
        "paper-bytes",
        "Bytes to the target",
        "Bytes of all uploads and downloads until the target, a dot a seed; a cross: not there in as many rounds.",
        f"Dot chart of bytes to the target by arm, to dense FedAvg's; {never} of {len(rows)} runs never got there.",
        figure,
    )


def dot_axes(arms, xlabel):
    """A figure with a row for each arm, the first on top."""
    figure = Figure(figsize=(WIDTH * 1.35, 0.9 + 0.22 * len(arms)))
    axes = figure.subplots()
    axes.set_yticks(range(len(arms)), arms)
    axes.set_ylim(len(arms) - 0.5, -0.5)
    axes.set_xlabel(xlabel)
    axes.grid(axis="y", visible=False)
    return figure, axes


def macs_plot(rows):
    """Accuracy against executed MACs, a line a kind of network, its static networks too; bars reach over the seeds."""
    dense = next(row["macs"] for row in rows if row["kind"] == "dense")
    series = {}
    for arm, fields in over_seeds(rows, "macs", "accuracy", "static_macs", "static_accuracy").items():
        kind = next(row["kind"] for row in rows if row["arm"] == arm)
        series.setdefault(kind, []).append((fields["macs"][0] / dense, fields["accuracy"]))
        if kind in ("paper", "hidden") and "static_accuracy" in fields:
            fixed = fields["static_macs"][0] / dense, fields["static_accuracy"]
            series.setdefault(f"static-{kind}", []).append(fixed)
    return Plot(
        "paper-macs",
        "Accuracy against executed MACs",
        "Test accuracy, mean over the seeds, bars from the lowest to the highest; executed MACs, gates included, as a "
        "share of the dense network's.",
        "Line chart of test accuracy against the share of MACs. " + told(series),
        worth_figure(series, "executed MACs, share of dense"),
    )


def pareto_plot(rows, runtime):
    """Accuracy against latency on a runtime; the Pareto front is drawn through the networks that no other beats."""
    rows = [row for row in rows if row["runtime"] == runtime and "on_front" in row]
    series = {}
    for row in rows:
        kind = row["arm"].partition(" ")[0]
        if row["role"] == "static" and not kind.endswith("-scale"):
            kind = f"static-{kind}"
        spread = row["accuracy"], row["accuracy_low"], row["accuracy_high"]
        series.setdefault(kind, []).append((row["ratio_to_dense"], spread))
    figure = worth_figure(series, f"latency on {runtime}, to the dense program's", lines=False)
    best = sorted((row["ratio_to_dense"], 100 * row["accuracy"]) for row in rows if row["on_front"])
    figure.axes[0].step(*zip(*best, strict=True), where="post", color=MUTED, linewidth=0.9, zorder=0)
    return Plot(
        f"paper-pareto-{runtime}",
        f"Accuracy against latency, {runtime}",
        "Batch 1, one thread, median ratio to the dense program in the same rounds; gated networks as skip programs. "
        "The thin line is the Pareto front of all programs.",
        f"Scatter chart of test accuracy against latency on {runtime}. " + told(series),
        figure,
    )


def worth_figure(series, xlabel, lines=True):
    """series: kind -> [(x, accuracy as (mean, low, high) fractions)]."""
    figure = Figure(figsize=(WIDTH, 2.9 + 0.1 * len(series)))
    axes = figure.subplots()
    for kind, points in series.items():
        xs, spreads = zip(*sorted(points), strict=True)
        mean, low, high = (100 * value for value in map(np.array, zip(*spreads, strict=True)))
        style = line_style(list(NAMES).index(kind)) | ({} if lines else {"linestyle": "none"})
        axes.errorbar(xs, mean, [mean - low, high - mean], label=NAMES[kind], elinewidth=0.8, **style)
    axes.set(xlabel=xlabel, ylabel="test accuracy, %", xlim=(0, None))
    figure.legend(loc="outside upper left", ncols=2, handlelength=2.4, columnspacing=1.2, borderaxespad=0.2)
    return figure


def told(series):
    """The points of a figure in words."""
    return "; ".join(
        f"{NAMES[kind]}: " + ", ".join(f"{100 * spread[0]:.1f} % at {x:.2f}" for x, spread in sorted(points))
        for kind, points in series.items()
    )


def draw(rows, folder):
    """Write the figures that the rows give into a folder, as SVG and PNG; yields the files."""
    mine = {part: [row for row in rows if row["part"] == part] for part in "abcd"}
    makers = (("a", gap_plot), ("b", bytes_plot), ("c", macs_plot))
    with styled():
        plots = [make(mine[part]) for part, make in makers if mine[part]]
        runtimes = dict.fromkeys(row["runtime"] for row in mine["d"] if "on_front" in row)
        plots += [pareto_plot(mine["d"], runtime) for runtime in runtimes]
        folder.mkdir(parents=True, exist_ok=True)
        for plot in plots:
            for suffix, content in (("svg", svg_bytes(plot.figure)), ("png", png_bytes(plot.figure))):
                write_file(path := folder / f"{plot.name}.{suffix}", content)
                yield path
