"""What one adversary costs."""

import numpy as np

from . import table

SAID = {
    "nobody": "nobody: all are honest",
    "nothing": "one never takes part, with {:.0f} % of the images",
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


@table("adversaries", "adversaries-seed-1", "adversaries-robust", "adversaries-robust-seed-1")
def adversaries(*results):
    rows, accuracies = [row for result in results for row in result], {}
    for row in rows:
        accuracies.setdefault((row["adversary"], row["aggregation"]), []).append(100 * row["accuracy"])
    found = {key: float(np.mean(each)) for key, each in accuracies.items()}
    options = list(dict.fromkeys(row["aggregation"] for row in rows))
    share = 100 * float(np.mean([row["share"] for row in rows]))
    first, *others = options
    heads = [HEADS[first], f"{HEADS[first]}, above the second line", *(HEADS[option] for option in others)]
    yield ["what one client of ten sends", *heads]
    for name in dict.fromkeys(row["adversary"] for row in rows):
        more = found[name, first] - found["nothing", first]
        values = [f"{found[name, first]:.1f}", "" if name == "nothing" else f"{more:+.1f}"]
        yield [SAID[name].format(share), *values, *(f"{found[name, option]:.1f}" for option in others)]
