"""Who holds which examples: partitions of a data set over clients, by flwr-datasets.

"dirichlet:ALPHA" is the label-skewed, self-balanced partition of NIID-Bench (Li et al., ICDE 2022), where a smaller
ALPHA means more skew; "classes:K" its other one, where each client holds K classes.
"""

import contextlib
import io
import math
import warnings

import numpy as np

from fedgate.device_runtime.errors import UsageError

SCHEMES = ("iid", "dirichlet:ALPHA", "classes:K", "natural")
# NIID-Bench asks for ten examples a client; with little data for each client that can never be drawn.
MIN_EXAMPLES = 10
REDRAWS = 10


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
