"""From finished runs to rows, and what the rows say over the seeds: pure functions."""

from collections import defaultdict

import numpy as np
from communication import summarise

MARGINS = (0.0, 2.0)  # points below dense FedAvg's accuracy


def gap_row(arm, seed, evaluated):
    """Question a: how much better a run's model is on images that it was trained on; evaluated: by `evaluate_run`.

    A client's gap weighs that of each class by how much of it the client holds.
    """
    level = evaluated["levels"][-1]
    gaps = np.subtract(level["train_by_client"], level["by_client"])
    return {
        "part": "a",
        "arm": arm.name,
        "kind": arm.kind,
        "density": arm.density,
        "seed": seed,
        "accuracy": level["accuracy"],
        "train_accuracy": level["train_accuracy"],
        "gap": level["train_test_gap"],
        "client_gap_low": float(gaps.min()),
        "client_gap_high": float(gaps.max()),
        "client_gaps": gaps.tolist(),
    }


def byte_rows(arm, seed, rounds, dense):
    """Question b, a row a margin; rounds, dense: the round rows of the run and of dense FedAvg with the same seed."""
    algorithm, _, rest = arm.name.partition(", ")
    facts = {"part": "b", "arm": arm.name, "algorithm": algorithm, "sends": rest, "density": arm.density}
    return [facts | found for found in summarise(arm.name, seed, rounds, dense, MARGINS)]


def accuracy_row(arm, seed, evaluated, static):
    """Question c; static: (accuracy, MACs) of the run's own static network, or None where it has no masks."""
    level = evaluated["levels"][-1]
    return {
        "part": "c",
        "arm": arm.name,
        "kind": arm.kind,
        "density": arm.density,
        "width": arm.options.get("width", 1.0),
        "hidden_width": arm.options.get("hidden_width", 1.0),
        "kept": arm.options["density"][0],
        "seed": seed,
        "accuracy": level["accuracy"],
        "macs": level["macs_executed"],
        "mask_overlap": level["mask_overlap"] if arm.chooses else None,
        "static_accuracy": static and static[0],
        "static_macs": static and static[1],
    }


def over_seeds(rows, *keys):
    """Mean, lowest and highest of the fields `keys` over the seeds, by arm: arm -> {key: (mean, low, high)}.

    A field is left out where a seed has none of it.
    """
    values = defaultdict(lambda: defaultdict(list))
    for row in rows:
        for key in keys:
            values[row["arm"]][key].append(row[key])
    return {
        arm: {key: (float(np.mean(v)), min(v), max(v)) for key, v in fields.items() if None not in v}
        for arm, fields in values.items()
    }


def front(points):
    """The indices of points (cost, worth) that no other beats: none is as cheap and worth more, or as good and cheaper.

    In the order of cost.
    """
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1]))
    kept, best = [], -np.inf
    for i in order:
        if points[i][1] > best:
            kept.append(i)
            best = points[i][1]
    return kept


def verdicts(rows):
    """What the rows say about gates, a line each: numbers alone, for whoever reads them."""
    of = {part: [row for row in rows if row["part"] == part] for part in "abc"}
    return [*gap_lines(of["a"]), *byte_lines(of["b"]), *accuracy_lines(of["c"])]


def gap_lines(rows):
    found = over_seeds(rows, "gap")
    return [f"train - test, {arm}: {percent(fields['gap'])}" for arm, fields in found.items()]


def byte_lines(rows):
    """Bytes of gated federations to those of the dense one by the same algorithm, at the widest margin."""
    spent = {
        (row["algorithm"], row["sends"], row["seed"]): row["bytes"] for row in rows if row["margin"] == MARGINS[-1]
    }
    for algorithm, sends in dict.fromkeys((algorithm, sends) for algorithm, sends, _ in spent if "gated, " in sends):
        seeds = [seed for a, s, seed in spent if (a, s) == (algorithm, sends)]
        pairs = [(spent[algorithm, sends, seed], spent[algorithm, "dense", seed]) for seed in seeds]
        told = [f"{own / dense:.2f}" if own and dense else "not there" for own, dense in pairs]
        yield f"bytes to the target, {algorithm}, {sends}, to dense by {algorithm}: {', '.join(told)} (by seed)"


def accuracy_lines(rows):
    found = over_seeds(rows, "accuracy", "static_accuracy")
    for density in sorted({row["density"] for row in rows}):
        mine = {row["arm"]: found[row["arm"]] for row in rows if row["density"] == density or row["kind"] == "dense"}
        told = [f"{arm} {percent(fields['accuracy'])}" for arm, fields in mine.items()]
        fixed = {arm: fields["static_accuracy"] for arm, fields in mine.items() if "static_accuracy" in fields}
        yield f"accuracy: {', '.join([*told, *(f'static of {arm} {percent(value)}' for arm, value in fixed.items())])}"


def percent(spread):
    """(mean, low, high) fractions as text."""
    return "{:.1f} % ({:.1f} to {:.1f})".format(*(100 * value for value in spread))
