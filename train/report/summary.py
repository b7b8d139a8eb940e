"""What the runs come to: pure functions of their histories, for the page's first table and for `--json`."""

import itertools
import math
from dataclasses import asdict, dataclass

from .history import History


@dataclass(frozen=True)
class Summary:
    """One run's row. Accuracies are fractions on the test set, at the densities of their round; bytes are up + down.

    worst_decile: the mean accuracy of the tenth of the clients that is served worst, after the last round.
    Fields that the run cannot answer are None; `target_*` also where it never reached the target.
    """

    key: str
    name: str
    rounds: int
    planned: int | None
    final: float | None
    best: float | None
    best_round: int | None
    worst_decile: float | None
    bytes_up: int | None
    bytes_down: int | None
    simulated_seconds: float | None
    macs: float | None
    target_round: int | None
    target_bytes: int | None
    target_seconds: float | None

    @property
    def bytes(self):
        return None if self.bytes_up is None or self.bytes_down is None else self.bytes_up + self.bytes_down

    def to_json(self):
        return asdict(self) | {"bytes": self.bytes}


def keys(count):
    """A, B, ... Z, AA, ...: the short names of `count` runs."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    words = itertools.chain.from_iterable(
        map("".join, itertools.product(letters, repeat=n)) for n in itertools.count(1)
    )
    return list(itertools.islice(words, count))


def default_target(histories):
    """One point below the best accuracy of the first run that has any, in whole percents, as a fraction; or None.

    Below it, since differences of less than a point mean little, and the best round would be a matter of luck.
    """
    for history in histories:
        found = [row.accuracy for row in history.rounds if row.accuracy is not None]
        if found:
            return max(0, math.floor(100 * max(found) + 1e-9) - 1) / 100 or None
    return None


def summarise(key, history: History, target, worst_decile=None) -> Summary:
    """A run's row of the table; target: an accuracy as a fraction, or None; worst_decile: measured, or None."""
    rows = history.rounds
    scored = [row for row in rows if row.accuracy is not None]
    best = max(scored, key=lambda row: row.accuracy, default=None)  # the first among equals
    hit = next((i for i, row in enumerate(rows) if target is not None and (row.accuracy or 0) >= target), None)
    until = None if hit is None else rows[: hit + 1]
    return Summary(
        key=key,
        name=history.name,
        rounds=rows[-1].round if rows else 0,
        planned=history.planned,
        final=rows[-1].accuracy if rows else None,
        best=best and best.accuracy,
        best_round=best and best.round,
        worst_decile=worst_decile,
        bytes_up=total(rows, "bytes_up"),
        bytes_down=total(rows, "bytes_down"),
        simulated_seconds=total(rows, "simulated_seconds"),
        macs=rows[-1].macs if rows else None,
        target_round=until and until[-1].round,
        target_bytes=until and total(until, "bytes_up", "bytes_down"),
        target_seconds=until and total(until, "simulated_seconds"),
    )


def total(rows, *fields):
    """The sum of fields over rows; None where there is no row or one of them lacks a value."""
    values = [getattr(row, field) for row in rows for field in fields]
    return sum(values) if values and None not in values else None


def running_totals(rows, *fields):
    """Cumulative sums of fields, one a row; None where a row lacks a value."""
    values = [[getattr(row, field) for field in fields] for row in rows]
    if not values or any(None in each for each in values):
        return None
    return list(itertools.accumulate(map(sum, values)))


def compare_options(histories):
    """Options by whether the runs agree: (differing, same), each a list of (name, list of texts, one a run or None)."""
    names = sorted(set().union(*(history.options for history in histories)))
    rows = [(name, [history.options.get(name) for history in histories]) for name in names]
    differing = [row for row in rows if len(set(row[1])) > 1]
    return differing, [row for row in rows if len(set(row[1])) == 1]
