"""A run as its files tell it, read with suspicion: a run folder may come from a stranger, be damaged or still grow.

Nothing here needs the run's code, data or even its model: config.json and metrics.jsonl are enough.
"""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.formats.checks import is_number, is_text, is_whole, parse_json
from fedgate.device_runtime.storage import read_file

MOST_ROUNDS = 10**6
MOST_BYTES = 2**60
LONGEST = 80  # characters of a name that are shown


@dataclass(frozen=True)
class Round:
    """A round's line of metrics.jsonl; what it does not hold is None.

    densities and accuracy_by_level: one a level, increasing in density. simulated_seconds: how long the round took on
    the run's simulated clients and links.
    """

    round: int
    accuracy: float | None
    accuracy_by_level: tuple[float, ...] | None
    densities: tuple[float, ...] | None
    bytes_up: int | None
    bytes_down: int | None
    macs: float | None
    overlap: float | None
    simulated_seconds: float | None


@dataclass(frozen=True)
class History:
    """rounds: in order. options: every option and resolved fact, as text. notes: what a reader must know, by line."""

    path: str
    name: str
    planned: int | None
    options: dict[str, str]
    labels: tuple[str, ...]
    data_hash: str
    gated: bool
    rounds: tuple[Round, ...]
    notes: tuple[str, ...] = field(default=())


def read_history(path) -> History:
    """Read a run folder. One that is none is a `FedgateError`; damaged or missing rows end in the notes."""
    path = Path(path)
    if not (path / "config.json").is_file():
        reason = "it has no config.json" if path.is_dir() else "no such folder"
        raise FedgateError(f"{printable(str(path), 1000)} is no run directory: {reason}")
    document = parse_json(read_file(path / "config.json"), printable(f"{path}/config.json", 1000))
    config = document.get("config") if isinstance(document, dict) else None
    if not isinstance(config, dict) or document.get("format") != "fedgate-run":
        raise FedgateError(f"{printable(str(path), 1000)}/config.json is not a run's")
    data = document.get("data") if isinstance(document.get("data"), dict) else {}
    labels = data.get("labels") if isinstance(data.get("labels"), list) else []
    rounds, notes = read_rounds(path / "metrics.jsonl")
    planned = config.get("rounds") if is_whole(config.get("rounds"), 1, MOST_ROUNDS) else None
    if planned is None:
        notes.append("its configuration does not say how many rounds were asked for")
    elif len(rounds) == 0:
        notes.append(f"no round is finished yet, of {planned}")
    elif rounds[-1].round < planned:
        notes.append(f"in progress, or interrupted: {rounds[-1].round} of {planned} rounds are done")
    return History(
        path=printable(str(path), 1000),
        name=printable(path.resolve().name) or "run",
        planned=planned,
        options=flat_options(document, config),
        labels=tuple(printable(label) if isinstance(label, str) else "?" for label in labels),
        data_hash=data["sha256"] if is_text(data.get("sha256")) else "",
        gated=config.get("gate") not in ("none", "scale"),
        rounds=rounds,
        notes=tuple(notes),
    )


def read_rounds(path):
    """The round rows of a metrics.jsonl, sorted, and notes on what could not be read."""
    if not path.is_file():
        return (), ["it has no metrics.jsonl"]
    lines = read_file(path).split(b"\n")
    rounds, notes, damaged = {}, [], []
    for number, line in enumerate(lines, 1):
        try:
            row = parse_row(line) if line.strip() else None
        except ValueError as error:
            if number == len(lines):
                notes.append("the last line of metrics.jsonl is not whole: the run was just writing it, or was killed")
            else:
                damaged.append(f"line {number}: {error}")
            continue
        if row is not None:
            rounds[row.round] = row
    if damaged:
        more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
        notes.append(f"metrics.jsonl is damaged ({damaged[0]}{more}): sums over rounds are too low")
    last = max(rounds, default=0)
    if not damaged and len(rounds) < last:
        notes.append(f"metrics.jsonl lacks {last - len(rounds)} of {last} rounds: sums over rounds are too low")
    return tuple(rounds[key] for key in sorted(rounds)), notes


def parse_row(line) -> Round | None:
    """A line of metrics.jsonl: the `Round`, None for a client's line; ValueError says what is wrong with it.

    Python writes NaN for the loss of a run that diverged; such a number counts as absent.
    """
    try:
        row = json.loads(line, parse_constant=lambda _: None)
    except (ValueError, RecursionError) as error:
        raise ValueError("not JSON") from error
    if not isinstance(row, dict) or "client" not in row:
        raise ValueError("not a row")
    if row["client"] is not None:
        return None

    def one(key, low, high):
        value = row.get(key)
        if value is not None and not is_number(value, low, high):
            raise ValueError(f"'{key}' must be a number from {low:g} to {high:g}")
        return value

    def count(key):
        if row.get(key) is not None and not is_whole(row[key], 0, MOST_BYTES):
            raise ValueError(f"'{key}' must be a whole number")
        return row.get(key)

    def several(key):
        values = row.get(key)
        if values is None:
            return None
        if not isinstance(values, list) or not values or not all(is_number(value, 0, 1) for value in values):
            raise ValueError(f"'{key}' must be a list of numbers from 0 to 1")
        return tuple(values)

    if not is_whole(row.get("round"), 1, MOST_ROUNDS):
        raise ValueError("'round' must be a whole number")
    return Round(
        round=row["round"],
        accuracy=one("accuracy", 0, 1),
        accuracy_by_level=several("accuracy_by_level"),
        densities=several("density"),
        bytes_up=count("bytes_up"),
        bytes_down=count("bytes_down"),
        macs=one("macs_per_sample", 0, 2**60),
        overlap=one("mask_overlap", 0, 1),
        simulated_seconds=one("simulated_seconds", 0, 1e12),
    )


def flat_options(document, config):
    """Every option of a run, and the facts that were looked up when it began, as printable text by name."""
    found = dict(config)
    data = document.get("data") if isinstance(document.get("data"), dict) else {}
    found |= {f"data: {key}": data[key] for key in ("name", "shape", "sha256") if key in data}
    for part in ("resolved", "versions"):
        facts = document.get(part) if isinstance(document.get(part), dict) else {}
        found |= {f"{part}: {key}": value for key, value in facts.items()}
    return {printable(str(key)): option_text(value) for key, value in sorted(found.items(), key=lambda item: item[0])}


def option_text(value):
    """An option's value as one would type it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.10g}"
    if isinstance(value, list):
        return printable(", ".join(option_text(item) for item in value[:LONGEST]), 2 * LONGEST)
    return printable(value if isinstance(value, str) else json.dumps(value), 2 * LONGEST) or "(empty)"


def printable(text, limit=LONGEST):
    """Text that is safe to lay out: no control, direction or surrogate characters, and not endless.

    Markup is not escaped here; the page's template does that.
    """
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"
