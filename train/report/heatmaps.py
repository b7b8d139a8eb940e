"""Heat maps: who holds which classes, and which channels which classes open."""

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from ..data.class_table import class_table_figure
from .history import printable
from .style import GRID, WIDTH, Plot

CHANNELS = (
    "Share of a class's test images that open a channel, at density {density:g}. In each layer the channels are sorted "
    "by how often they open. A column of one colour is a channel that does not depend on the class. Counted are "
    "channels that every image opens, that none does, and the others."
)
TALLEST = 5.9  # inches: two rows of such figures fit on a printed page
MOST_NAMES = 24  # classes whose names are written beside a map
NAME = 12  # characters of a class's name in a figure


def class_plots(runs, tables):
    """Clients by classes, one figure for all runs that share the table. tables: run -> int64 (clients, classes)."""
    groups = {}
    for run in runs:
        if run in tables:
            table = tables[run]
            groups.setdefault((table.shape, table.tobytes(), run.history.labels), []).append(run)
    plots = []
    for group in groups.values():
        table, names = tables[group[0]], short_names(group[0].history.labels)
        clients, classes = table.shape
        size = (WIDTH, min(TALLEST, 1.1 + 0.06 * max(map(len, names)) + 0.24 * clients))
        whose = ", ".join(run.label for run in group)
        held = (table > 0).sum(1)
        plots.append(
            Plot(
                f"classes-{group[0].key}",
                f"Client \N{MULTIPLICATION SIGN} class: {whose}"
                if len(groups) > 1
                else "Client \N{MULTIPLICATION SIGN} class",
                f"Training examples of each class that each client holds{' (all runs)' if len(groups) == 1 else ''}.",
                f"Heat map of {clients} clients by {classes} classes for {whose}; a client holds "
                f"{held.min()} to {held.max()} classes and {table.sum(1).min()} to {table.sum(1).max()} examples.",
                class_table_figure(table, names, size),
            )
        )
    return plots


def channel_plots(run, measured):
    """Which channels which classes open: figures of as many layers as fit on a printed page."""
    if not measured.opened:
        return []
    names = short_names(run.history.labels)
    panel = float(np.clip(0.11 * len(names), 0.7, 1.8))  # inches
    layers = list(measured.opened.items())
    size = max(1, int((TALLEST - 1.0) / (panel + 0.5)))
    pages = [layers[start : start + size] for start in range(0, len(layers), size)]
    plots = []
    for number, page in enumerate(pages, 1):
        part = f", part {number} of {len(pages)}" if len(pages) > 1 else ""
        said = "; ".join(f"{name}: {counted(opened)}" for name, opened in page)
        plots.append(
            Plot(
                f"channels-{run.key}-{number}",
                f"Channels by class: {run.label}{part}",
                CHANNELS.format(density=measured.density) if number == 1 else "To be read as part 1.",
                f"Heat maps of classes by channels. {said}.",
                channel_figure(page, names, panel),
            )
        )
    return plots


def channel_figure(layers, names, panel):
    """layers: (name, opened (classes, C)) from top to bottom; panel: inches of height for each."""
    figure = Figure(figsize=(WIDTH, 1.0 + len(layers) * (panel + 0.5)))
    rows = figure.subplots(len(layers), 1, squeeze=False)[:, 0]
    colours = colormaps["Blues"].with_extremes(bad=GRID)
    for axes, (name, opened) in zip(rows, layers, strict=True):
        order = np.argsort(-np.nan_to_num(np.nanmean(opened, axis=0)), kind="stable")
        grid = axes.imshow(
            opened[:, order], cmap=colours, vmin=0, vmax=1, aspect="auto", interpolation="nearest", resample=False
        )
        axes.set_title(f"{printable(name, 30)}: {counted(opened)}", fontsize=8)
        axes.grid(False)
        if len(names) <= MOST_NAMES:
            axes.set_yticks(range(len(names)), names, fontsize=7)
        else:
            axes.set_ylabel("class")
        axes.tick_params(length=0)
        axes.set_xticks([])
    rows[-1].set_xlabel("channels, the most often opened first")
    bar = figure.colorbar(grid, ax=list(rows), location="bottom", aspect=40, shrink=0.7, pad=0.02)
    bar.set_label("share of the class's images, %")
    bar.set_ticks([0, 0.25, 0.5, 0.75, 1], labels=["0", "25", "50", "75", "100"])
    bar.outline.set_visible(False)
    return figure


def counted(opened):
    """How many channels every image opens, no image, and some but not all, in words; opened: (classes, C) shares."""
    seen = opened[~np.isnan(opened).any(1)]
    always, never = (seen == 1).all(0).sum(), (seen == 0).all(0).sum()
    return f"{always} always, {never} never, {opened.shape[1] - always - never} sometimes open"


def short_names(labels):
    return [printable(name, NAME) for name in labels]
