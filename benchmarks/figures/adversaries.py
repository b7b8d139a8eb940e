"""Phrases about adversaries."""

import numpy as np

from . import of

SAID = {
    "nobody": "nobody: all are honest",
    "nothing": "one never takes part",
    "sign flip": "its change, negated",
    "scaled": "ten times its change, negated",
    "noise": "noise of deviation 100",
    "largest": "weights of 3e38",
    "statistics": "means of 1e6, variances of 3e38",
    "shifted": "means two deviations off, variances times four",
    "counts": "its change, negated, and 2,147,483,647 examples and steps",
    "labels": "trained on reversed labels",
    "replay": "in every round its first weights",
    "nudged": "its first weights, with noise as long as the others' mean change",
    "by turns": "its change, negated in every other round",
    "opposite": "the others' mean change, negated and as long as passes whole",
}
HEADS = {"default": "default", "trimmed-mean": "`trimmed-mean`", "median": "`median`", "clip": "`--clip-update 1`"}


@of("adversaries", "adversaries-seed-1", "adversaries-robust", "adversaries-robust-seed-1")
def adversaries(*results):
    rows, found = [row for result in results for row in result], {}
    for row in rows:
        found.setdefault((row["adversary"], row["aggregation"]), []).append(100 * row["accuracy"])
    options = list(dict.fromkeys(row["aggregation"] for row in rows))
    heads = " | ".join(["what one client of ten sends", *(HEADS[option] for option in options)])
    lines = [f"| {heads} |", "|" + "---|" * (1 + len(options))]
    values = []
    for name in dict.fromkeys(row["adversary"] for row in rows):
        measured = [float(np.mean(found[name, option])) if (name, option) in found else None for option in options]
        lines.append("| " + " | ".join([SAID[name], *("" if value is None else "{:.1f}" for value in measured)]) + " |")
        values += [value for value in measured if value is not None]
    yield "\n".join(lines), *values
    shares = [row["share"] for row in rows if row["aggregation"] == options[0]]
    yield "It holds {:.0f} % of all training images", 100 * float(np.mean(shares))
    nothing = np.mean(found["nothing", options[0]])
    means = {name: float(np.mean(each)) for (name, option), each in found.items() if option == options[0]}
    yield "at most {:.1f} points, with wrong labels", float(nothing - means.pop("labels"))
    yield "all others at most {:.1f}", float(nothing - min(means.values()))
