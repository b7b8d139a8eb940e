"""Who holds which examples: partitions of a data set over clients, by flwr-datasets, and how to look at them.

"dirichlet:ALPHA" is the label-skewed, self-balanced partition of NIID-Bench (Li et al., ICDE 2022), where a smaller
ALPHA means more skew; "classes:K" its other one, where each client holds K classes.
"""

import contextlib
import io
import math
import warnings
from pathlib import Path

import numpy as np

from fedgate.device_runtime.errors import UsageError
from fedgate.device_runtime.text import printable

SCHEMES = ("iid", "dirichlet:ALPHA", "classes:K", "natural")
# NIID-Bench asks for ten examples a client; with little data for each client that can never be drawn.
MIN_EXAMPLES = 10
REDRAWS = 10
FEW_CLASSES = 10  # as many as fit side by side in a terminal


def partition(
    labels: np.ndarray, clients: int, scheme: str, seed: int, groups: np.ndarray | None = None
) -> list[np.ndarray]:
    """The sorted int64 indices of each client's examples, for labels (N,) of ints; a function of its arguments only.

    Every example goes to exactly one client. "natural" gives each client the examples of one natural id in
    `groups` (N,); where there are more ids than clients, `clients` of them are drawn and the other ids' examples
    are left out. Raises UsageError for an unknown scheme, or one that these labels and clients do not allow.
    """
    labels = np.asarray(labels)
    name, value = _parse(scheme)
    if not 1 <= clients <= len(labels):
        raise UsageError(f"{clients} clients over {len(labels)} examples: choose 1 to {len(labels)} clients")
    if name == "natural":
        return _natural(len(labels), clients, seed, groups)
    if name == "classes":
        _check_classes(labels, clients, value)
    # The partitioners cut runs of neighbours; data that is sorted (by writer, by time) must not show in them.
    order = np.random.default_rng(seed).permutation(len(labels))
    columns = {"index": order, "label": labels[order]}
    for attempt in range(REDRAWS if name == "dirichlet" else 1):
        try:
            parts = _run(_partitioner(name, value, clients, len(labels), [seed, attempt]), columns)
            break
        except ValueError as error:
            reason = error
    else:
        hint = "a larger ALPHA or fewer clients" if name == "dirichlet" else "fewer clients or classes"
        raise UsageError(f"cannot draw '{scheme}' for {clients} clients ({reason}): choose {hint}")
    missing = np.setdiff1d(np.arange(len(labels)), np.concatenate(parts))
    if len(missing):
        left = ", ".join(str(label) for label in np.unique(labels[missing]))
        raise UsageError(
            f"'{scheme}' over {clients} clients leaves class {left} to nobody: "
            f"choose at least {len(np.unique(labels))} clients, or another seed"
        )
    return parts


def _parse(scheme: str) -> tuple[str, float | int | None]:
    """'dirichlet:0.5' -> ('dirichlet', 0.5)."""
    name, _, text = scheme.partition(":")
    wanted = next((known for known in SCHEMES if known.split(":")[0] == name), None)
    if wanted is None or (":" in wanted) != (":" in scheme):
        raise UsageError(f"unknown partition '{scheme}'; known: {', '.join(SCHEMES)}")
    if name not in ("dirichlet", "classes"):
        return name, None
    try:
        value = float(text) if name == "dirichlet" else int(text)
    except ValueError:
        value = math.nan
    if not (0 < value < math.inf):
        kind = "a number" if name == "dirichlet" else "a whole number"
        raise UsageError(f"partition '{scheme}': {wanted.split(':')[1]} must be {kind} above 0")
    return name, value


def _check_classes(labels: np.ndarray, clients: int, k: int) -> None:
    present = len(np.unique(labels))
    if k > present:
        raise UsageError(f"classes:{k} is more than the {present} classes that the data has")
    if clients * k < present:
        raise UsageError(
            f"{clients} clients of {k} classes hold {clients * k} of the {present} classes: "
            f"choose at least {-(-present // k)} clients, better {present}"
        )


def _partitioner(name: str, value, clients: int, examples: int, seed: list[int]):
    from flwr_datasets import partitioner  # takes seconds to import

    if name == "iid":
        return partitioner.IidPartitioner(clients)
    if name == "dirichlet":
        return partitioner.DirichletPartitioner(
            clients,
            partition_by="label",
            alpha=value,
            self_balancing=True,
            shuffle=False,
            min_partition_size=max(1, min(MIN_EXAMPLES, examples // (10 * clients))),
            seed=seed,
        )
    # As in NIID-Bench client i surely holds class i (modulo the classes); the rest is drawn.
    return partitioner.PathologicalPartitioner(
        clients,
        partition_by="label",
        num_classes_per_partition=value,
        class_assignment_mode="first-deterministic",
        shuffle=False,
        seed=seed,
    )


def _run(partitioner, columns: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Sorted values of the column `index` in each partition. Raises the partitioner's ValueError."""
    from datasets import Dataset

    class Columns(Dataset):
        """Reads a column, and takes a list of indices, as one array: one by one they cost seconds each."""

        def __getitem__(self, key):
            return super().__getitem__(slice(None))[key] if isinstance(key, str) else super().__getitem__(key)

        def select(self, indices, **options):
            return super().select(np.asarray(indices, dtype=np.int64), **options)

    # Both warn and show progress at each draw; what matters comes back as an error.
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        partitioner.dataset = Columns.from_dict(columns).with_format("numpy")
        parts = [partitioner.load_partition(i) for i in range(partitioner.num_partitions)]
        return [np.sort(part["index"][:]) for part in parts]


def _natural(examples: int, clients: int, seed: int, groups: np.ndarray | None) -> list[np.ndarray]:
    from flwr_datasets.partitioner import NaturalIdPartitioner

    if groups is None:
        raise UsageError("partition 'natural' needs a column of natural ids: name the data's column of them")
    parts = _run(NaturalIdPartitioner("group"), {"index": np.arange(examples), "group": np.asarray(groups)})
    if clients > len(parts):
        raise UsageError(f"{clients} clients, but the data has {len(parts)} natural ids: choose at most that many")
    chosen = np.random.default_rng(seed).choice(len(parts), clients, replace=False)
    return [parts[i] for i in np.sort(chosen)]


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
