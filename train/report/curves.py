"""Line figures: one line a run."""

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from .style import MUTED, WIDTH, Plot, line_style
from .summary import running_totals
from .text import percent, scale_of

HEIGHT = 2.9
LOG_FROM = 6.0  # totals that differ by more than this would squeeze the smaller run into a corner
ROW = 0.17  # inches of a further row of the legend
LEGEND_WIDTH = 68  # characters that fit side by side above a figure


def line_figure(series, xlabel, ylabel, target=None, log=False, from_zero=False):
    """A figure of one or more lines a run.

    series: (run number, label, xs, ys) of each line; a run that comes again gets no second legend entry. target: a
    horizontal line there. log: of the x axis.
    """
    figure = Figure(figsize=(WIDTH, HEIGHT))
    axes = figure.subplots()
    handles = {}
    for index, label, xs, ys in series:
        style = line_style(index)
        every = max(1, len(xs) // 10)
        # markers staggered, as lines may coincide, and whole, also those that lie on an axis
        (line,) = axes.plot(xs, ys, **style, markevery=(index % every, every), clip_on=False)
        handles.setdefault(label, line)
    if target is not None:
        axes.axhline(100 * target, color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)))
        handles["target " + percent(target)] = Line2D([], [], color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)))
    axes.set(xlabel=xlabel, ylabel=ylabel)
    if log:
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        few = high < 1000 * low  # decades
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,), numticks=10 if few else 6))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    elif all(isinstance(x, int) for _, _, xs, _ in series for x in xs):
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6))
    if from_zero:
        axes.set_ylim(0, 1.08 * max(max(ys) for *_, ys in series) or 1)
    legend(figure, handles)
    return figure


def legend(figure, handles):
    """Put the legend above the axes, in as many columns as the names leave room for."""
    longest = max(map(len, handles))
    columns = max(1, min(len(handles), LEGEND_WIDTH // (longest + 6)))
    figure.set_figheight(HEIGHT + ROW * (-(-len(handles) // columns) - 1))
    names = [name for column in range(columns) for name in list(handles)[column::columns]]  # read row by row
    figure.legend(
        [handles[name] for name in names],
        names,
        loc="outside upper left",
        ncols=columns,
        handlelength=2.8,
        handletextpad=0.5,
        columnspacing=1.2,
        borderaxespad=0.2,
    )


def accuracy_plots(runs, target):
    """Accuracy against rounds, bytes and simulated time; a run is in those that it has the numbers for."""
    rounds = [(run.index, run.label, [r.round for r in rows], scores(rows)) for run in runs if (rows := scored(run))]
    plots = []
    if rounds:
        figure = line_figure(rounds, "round", "test accuracy, %", target)
        plots.append(
            Plot(
                "accuracy-rounds",
                "Accuracy against rounds",
                "Share of the test set that the global model classifies rightly after each round, at the densities of "
                "that round: while a density schedule still falls, more channels are open than at the end.",
                "Line chart of test accuracy in percent by round. " + ends(runs),
                figure,
            )
        )
    plots += against_total(
        runs,
        ("bytes_up", "bytes_down"),
        "bytes",
        target,
        "accuracy-bytes",
        "Accuracy against bytes",
        "bytes sent, up + down",
        "Bytes of all uploads and downloads since the start, as they crossed the wire.",
    )
    plots += against_total(
        runs,
        ("simulated_seconds",),
        "seconds",
        target,
        "accuracy-time",
        "Accuracy against simulated time",
        "simulated time",
        "Time on the simulated clients and links of the run, not on the machine that simulated them.",
    )
    return plots


def against_total(runs, fields, kind, target, name, title, xlabel, caption):
    """A list of no or one plot: accuracy against the running total of fields of the rounds."""
    totals = {run: running_totals(run.history.rounds, *fields) for run in runs if scored(run)}
    totals = {run: values for run, values in totals.items() if values and values[-1] > 0}
    if not totals:
        return []
    unit, factor = scale_of(max(values[-1] for values in totals.values()), kind)
    series = []
    for run, values in totals.items():
        points = [
            (x / factor, 100 * row.accuracy)
            for x, row in zip(values, run.history.rounds, strict=True)
            if row.accuracy is not None and x > 0
        ]
        series.append((run.index, run.label, [x for x, _ in points], [y for _, y in points]))
    lasts = [values[-1] for values in totals.values()]
    log = max(lasts) > LOG_FROM * min(lasts)
    figure = line_figure(series, f"{xlabel}, {unit}{' (log scale)' if log else ''}", "test accuracy, %", target, log)
    alt = f"Line chart of test accuracy in percent against {xlabel}. " + ends(totals)
    return [Plot(name, title, caption + left_out(runs, totals), alt, figure)]


def round_plots(runs):
    """What happens from round to round: density, mask overlap, and the bytes each way."""
    gated = [run for run in runs if run.history.gated]
    plots = []
    lines = density_lines(gated)
    if lines:
        plots.append(
            Plot(
                "density",
                "Density schedule",
                "Kept fraction of each gated layer's channels, a line for each level of a run.",
                "Line chart of density by round. "
                + listing(f"{run.label} ends at {final_density(run)}" for run in gated),
                line_figure(lines, "round", "density", from_zero=True),
            )
        )
    lines = [line for run in gated if (line := line_of(run, "overlap", 1))]
    if lines:
        figure = line_figure(lines, "round", "mask overlap")
        figure.axes[0].set_ylim(0, 1.04)
        plots.append(
            Plot(
                "overlap",
                "Mask overlap",
                "Share of its open channels that a test image has in common with another, mean over the gated layers, "
                "at the highest density. Masks drawn at random would have the density; 1 means that every image "
                "opens the same channels, as it must where the highest density is 1.",
                "Line chart of mask overlap by round. " + last_values(gated, "overlap", "{:.2f}"),
                figure,
            )
        )
    for field, way, who in (("bytes_up", "Upload", "send"), ("bytes_down", "Download", "receive")):
        most = max((getattr(r, field) or 0 for run in runs for r in run.history.rounds), default=0)
        unit, factor = scale_of(most, "bytes")
        lines = [line for run in runs if (line := line_of(run, field, 1 / factor))]
        if lines:
            figure = line_figure(lines, "round", f"{way.lower()}, {unit} a round", from_zero=True)
            alt = f"Line chart of {way.lower()} bytes by round. " + last_values(runs, field, "{:,} bytes")
            caption = f"Bytes that all clients of a round {who} together."
            plots.append(Plot(f"bytes-{way.lower()}", f"{way} a round", caption, alt, figure))
    return plots


def client_plot(runs, accuracies):
    """Every client's accuracy, worst first; no or one plot. accuracies: run -> (clients,) fractions."""
    runs = [run for run in runs if run in accuracies]
    if not runs:
        return []
    sizes = {len(accuracies[run]) for run in runs}
    series = []
    for run in runs:
        ys = sorted(100 * float(value) for value in accuracies[run])
        ranks = list(range(1, len(ys) + 1))
        xs = ranks if len(sizes) == 1 else [100 * rank / len(ys) for rank in ranks]
        series.append((run.index, run.label, xs, ys))
    xlabel = "client, the worst first" if len(sizes) == 1 else "share of the clients, % (the worst first)"
    worst = listing(
        f"{run.label}: from {ys[0]:.1f} to {ys[-1]:.1f} %" for run, (*_, ys) in zip(runs, series, strict=True)
    )
    return [
        Plot(
            "accuracy-clients",
            "Accuracy by client",
            "Accuracy of the last global model on each client's mixture of classes, sorted within each run, at the "
            "highest density. A steep left end means that some clients are served badly.",
            f"Line chart of sorted client accuracies. {worst}",
            line_figure(series, xlabel, "test accuracy, %"),
        )
    ]


def scored(run):
    return [row for row in run.history.rounds if row.accuracy is not None]


def scores(rows):
    return [100 * row.accuracy for row in rows]


def line_of(run, field, factor):
    """A series of a field of the rounds that have it, or None."""
    rows = [row for row in run.history.rounds if getattr(row, field) is not None]
    return (run.index, run.label, [r.round for r in rows], [factor * getattr(r, field) for r in rows]) if rows else None


def density_lines(runs):
    """A series for each level of each run."""
    series = []
    for run in runs:
        rows = [row for row in run.history.rounds if row.densities]
        for level in range(min((len(row.densities) for row in rows), default=0)):
            xs, ys = [row.round for row in rows], [row.densities[level] for row in rows]
            series.append((run.index, run.label, xs, ys))
    return series


def final_density(run):
    found = [row.densities for row in run.history.rounds if row.densities]
    return ", ".join(f"{value:g}" for value in found[-1]) if found else "?"


def ends(runs):
    """The last accuracy of each run, in words."""
    return listing(f"{run.label} ends at {percent(rows[-1].accuracy)}" for run in runs if (rows := scored(run)))


def last_values(runs, field, form):
    found = ((run, line_of(run, field, 1)) for run in runs)
    return listing(f"{run.label} ends at {form.format(line[3][-1])}" for run, line in found if line)


def left_out(runs, shown):
    """A sentence about the runs that a figure lacks."""
    missing = [run.label for run in runs if run not in shown]
    return f" Without these numbers, so left out: {', '.join(missing)}." if missing else ""


def listing(parts):
    return "; ".join(parts) + "."
