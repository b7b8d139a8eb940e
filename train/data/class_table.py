"""How many examples of each class each client holds: the table, in a terminal and as a heat map."""

from pathlib import Path

import numpy as np

from fedgate.device_runtime.text import printable

FEW_CLASSES = 10  # as many as fit side by side in a terminal


def class_table(labels: np.ndarray, parts: list[np.ndarray], classes: int) -> np.ndarray:
    """int64 (clients, classes): how many examples of each class each client holds."""
    labels = np.asarray(labels)
    return np.stack([np.bincount(labels[part], minlength=classes) for part in parts])


def render_class_table(table: np.ndarray, names: list[str]):
    """A rich Table of a class table (clients, classes): all counts, or for many classes the most frequent ones."""
    from rich import box
    from rich.table import Table

    few = len(names) <= FEW_CLASSES
    shown = Table(title="examples by client and class", box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1))
    shown.add_column("client", justify="right", no_wrap=True)
    for name in names if few else ["classes"]:
        # Ten full names do not fit into 80 columns, and rich would cut the numbers with them.
        shown.add_column(name if len(name) <= 5 or not few else name[:4] + "…", justify="right", no_wrap=True)
    if not few:
        shown.add_column("most frequent")
    shown.add_column("all", justify="right", no_wrap=True)
    for client, row in enumerate(table):
        cells = [str(count) if count else "·" for count in row]
        if not few:
            top = [i for i in np.argsort(-row, kind="stable")[:4] if row[i]]
            cells = [str(np.count_nonzero(row)), ", ".join(f"{names[i]} {row[i]}" for i in top)]
        shown.add_row(str(client), *cells, str(row.sum()))
    return shown


def class_table_figure(table: np.ndarray, names: list[str], size: tuple[float, float]):
    """A heat map of a class table (clients, classes) as a matplotlib Figure of this size in inches.

    Names and counts are written where there is room for them.
    """
    from matplotlib.figure import Figure

    clients, classes = table.shape
    names = [printable(name) for name in names]
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    grid = axes.imshow(table, cmap="Blues", vmin=0, aspect="auto", interpolation="nearest")
    axes.set(xlabel="class", ylabel="client")
    axes.grid(False)
    if classes <= 40:
        upright = size[0] / classes > 0.1 * max(map(len, names)) + 0.1
        slant = {} if upright else {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
        axes.set_xticks(range(classes), names, **slant)
    if clients <= 40:
        axes.set_yticks(range(clients))
    if 0.8 * size[0] / classes >= 0.07 * len(str(table.max())) and size[1] / clients >= 0.15:
        for (client, label), count in np.ndenumerate(table):
            dark = count > table.max() / 2
            axes.text(label, client, count, ha="center", va="center", size=7, color="white" if dark else "black")
    figure.colorbar(grid, label="examples", aspect=20 * max(1, size[1] / size[0]))
    return figure


def plot_class_table(table: np.ndarray, names: list[str], path: Path) -> None:
    """Write a class table (clients, classes) as a heat map; the suffix of `path` (.png, .svg) is the format."""
    from matplotlib import rc_context

    clients, classes = table.shape
    # Without a date and random ids the same table gives the same file; a dollar in a name starts no formula.
    with rc_context({"svg.hashsalt": "fedgate", "text.parse_math": False}):
        figure = class_table_figure(table, names, (2.5 + 0.5 * min(classes, 40), 1.6 + 0.3 * min(clients, 60)))
        figure.axes[0].set_title("examples by client and class")
        figure.savefig(path, dpi=150, metadata={"Date": None} if Path(path).suffix == ".svg" else None)
