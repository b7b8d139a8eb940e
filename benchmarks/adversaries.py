"""What one adversary among ten clients costs: accuracy by what it sends, with each way of aggregating.

The client with the most images is the adversary, in every round. What it sends, once it has trained as all others do:

    nobody        there is none: all ten are honest
    nothing       it is never heard of: what the others reach without its images
    sign flip     its change, negated
    scaled        ten times its change, negated
    noise         weights from a normal distribution of deviation 100
    largest       weights of 3e38, as large as float32 holds
    statistics    its weights, with norm means of 1e6 and variances of 3e38
    shifted       its weights, with norm means two deviations off and variances times four
    counts        its change negated, as the work of 2,147,483,647 examples and steps
    labels        what it learned from labels that were reversed (y becomes 9 - y)
    replay        in every round the weights of its first
    nudged        the same, with noise as long as the mean change of all others
    by turns      its change, negated in every other round
    opposite      the mean change of all others, which it would have to know, negated and as long as passes whole (C.
                  Xie, O. Koyejo, I. Gupta, "Fall of Empires", UAI 2019)

Accuracy is the mean over the last three rounds, on digits; `share`, that of all training images which it holds.

    python benchmarks/adversaries.py --json adversaries.json
"""

import dataclasses
import tempfile

import click
import numpy as np
from common import machine
from result_file import json_option, write_result

from fedgate.device_runtime.formats.update import MOST, encode_update
from fedgate.device_runtime.tables import console, table
from fedgate.train.config.resolve import resolve
from fedgate.train.engines.make import open_run
from fedgate.train.ingredients import describe_run, prepare
from fedgate.train.server.engine import NoResult
from fedgate.train.server.gather import judge
from fedgate.train.server.run_directory import RunDirectory
from fedgate.train.strategies.norms import MEAN, VARIANCE, is_statistic

OPTIONS = {
    "default": {},
    "trimmed-mean": {"robust": "trimmed-mean"},
    "median": {"robust": "median"},
    "clip": {"clip_update": 1.0},
}
LAST = 3  # rounds whose mean is the accuracy of a run's end


def changed(update, change):
    """An update whose values, by name, are `change(name, value)`."""
    values = {name: np.asarray(change(name, value), np.float32) for name, value in update.values.items()}
    return dataclasses.replace(update, values=values)


def weights(update, change):
    """An update whose weights are changed, and whose norm statistics are not."""
    return changed(update, lambda name, value: value if is_statistic(name) else change(name, value))


def length(update, base):
    squares = (((v - base[n]).astype(float) ** 2).sum() for n, v in update.values.items() if not is_statistic(n))
    return sum(squares) ** 0.5


def scaled(update, base, factor):
    return weights(update, lambda name, value: base[name] + factor * (value - base[name]))


def shifted(name, value, update):
    if name.endswith(VARIANCE):
        return 4 * value
    return value + 2 * np.sqrt(update.values[name.removesuffix(MEAN) + VARIANCE]) if name.endswith(MEAN) else value


def spoiled(name, value):
    return np.full_like(value, 1e6 if name.endswith(MEAN) else 3e38) if is_statistic(name) else value


def mean_change(others, base):
    return {name: np.mean([other.values[name] - base[name] for other in others], axis=0) for name in others[0].values}


def nudged(update, others, base, draws):
    noise = {name: draws.normal(size=value.shape) for name, value in update.values.items()}
    mean = mean_change(others, base)
    by = length(weights(update, lambda name, _: base[name] + mean[name]), base)
    by /= length(weights(update, lambda name, _: base[name] + noise[name]), base)
    return weights(update, lambda name, value: value + by * noise[name])


def opposite(update, others, base):
    """Twice as long as the others' changes are in the median, which is just what passes whole."""
    mean = mean_change(others, base)
    by = 2 * float(np.median([length(other, base) for other in others]))
    by /= max(1e-9, length(weights(update, lambda name, _: base[name] + mean[name]), base))
    return weights(update, lambda name, _: base[name] - by * mean[name])


# name -> (its update, the others', base, generator) -> what it sends
STRATEGIES = {
    "nobody": None,
    "nothing": None,
    "sign flip": lambda own, others, base, draws: scaled(own, base, -1),
    "opposite": lambda own, others, base, draws: opposite(own, others, base),
    "replay": None,
    "labels": None,
    "scaled": lambda own, others, base, draws: scaled(own, base, -10),
    "shifted": lambda own, others, base, draws: changed(own, lambda name, value: shifted(name, value, own)),
    "nudged": None,
    "by turns": None,
    "counts": lambda own, others, base, draws: dataclasses.replace(
        scaled(own, base, -1), examples=MOST, local_steps=MOST, samples=(MOST,) * len(own.samples)
    ),
    "statistics": lambda own, others, base, draws: changed(own, spoiled),
    "noise": lambda own, others, base, draws: weights(own, lambda _, value: draws.normal(0, 100, value.shape)),
    "largest": lambda own, others, base, draws: weights(own, lambda _, value: np.full_like(value, 3e38)),
}


class Adversary:
    """An engine whose clients train, and one of them sends something else."""

    def __init__(self, engine, client, name, seed):
        self.engine, self.client, self.name = engine, client, name
        self.draws, self.first, self.rounds = np.random.default_rng(seed), None, 0

    def train(self, tasks):
        results = list(self.engine.train(tasks))
        spec, base = tasks[0].broadcast.spec, tasks[0].broadcast.public
        updates = {result.client: judge(result.blob, spec, base)[0] for result in results}
        own, others = updates.pop(self.client), [update for update in updates.values() if update]
        for result in results:
            if result.client != self.client or own is None:  # what it was sent trains no more
                yield result
            elif self.name == "nothing":
                yield NoResult(self.client, None)
            else:
                sent = self.sent(own, others, base)
                yield dataclasses.replace(result, blob=encode_update(sent, spec, base))

    def sent(self, own, others, base):
        self.first, self.rounds = self.first or own, self.rounds + 1
        if self.name in ("replay", "nudged"):
            sent = dataclasses.replace(own, values=self.first.values)
            return sent if self.name == "replay" else nudged(sent, others, base, self.draws)
        if self.name == "by turns":
            return scaled(own, base, -1) if self.rounds % 2 else own
        strategy = STRATEGIES[self.name]
        return own if strategy is None else strategy(own, others, base, self.draws)

    def __getattr__(self, name):
        return getattr(self.engine, name)


def accuracy(config, name):
    """The accuracy at the end of a run with an adversary."""
    data, parts = prepare(config)
    client = int(np.argmax([len(part) for part in parts]))
    if name == "labels":
        labels = data.train_labels.clone()
        labels[parts[client]] = len(data.labels) - 1 - labels[parts[client]]
        data = dataclasses.replace(data, train_labels=labels)
    with tempfile.TemporaryDirectory() as folder:
        directory = RunDirectory.create(f"{folder}/run", describe_run(config, data))
        with open_run(directory, data, parts) as run:
            if name != "nobody":
                run.engine = Adversary(run.engine, client, name, config.seed)
            found = [row["accuracy"] for row in run.rounds()]
    return float(np.mean(found[-LAST:])), len(parts[client]) / sum(map(len, parts))


def show(rows):
    options = list(dict.fromkeys(row["aggregation"] for row in rows))
    made = table("adversary", *options, title="accuracy, %, with one adversary among the clients", right=len(options))
    for name in dict.fromkeys(row["adversary"] for row in rows):
        cells = []
        for option in options:
            found = [100 * r["accuracy"] for r in rows if (r["adversary"], r["aggregation"]) == (name, option)]
            cells.append(f"{np.mean(found):.1f} ({min(found):.1f} to {max(found):.1f})" if found else "")
        made.add_row(name, *cells)
    console().print(made)


@click.command()
@click.option("--clients", default=10, show_default=True)
@click.option("--rounds", default=20, show_default=True)
@click.option("--partition", default="dirichlet:0.3", show_default=True)
@click.option("--seed", "seeds", multiple=True, type=int, default=(0, 1), show_default=True)
@click.option("--adversary", "names", multiple=True, type=click.Choice(list(STRATEGIES)), help="By default all.")
@click.option("--aggregation", "chosen", multiple=True, type=click.Choice(list(OPTIONS)), help="By default all.")
@click.option("--quick", is_flag=True, help="4 rounds, one seed, three adversaries.")
@json_option
def main(clients, rounds, partition, seeds, names, chosen, quick, json_path):
    """Measure what one adversary costs."""
    if quick:
        rounds, seeds, names = 4, seeds[:1], names or ("nobody", "sign flip", "largest")
    console().print(", ".join(f"{key} {value}" for key, value in machine().items()), soft_wrap=True)
    rows = []
    for option in chosen or OPTIONS:
        for name in names or STRATEGIES:
            for seed in seeds:
                same = {"clients": clients, "rounds": rounds, "partition": partition, "seed": seed}
                found, share = accuracy(resolve(**same, **OPTIONS[option]), name)
                rows.append({"adversary": name, "aggregation": option, **same, "share": share, "accuracy": found})
                write_result(json_path, rows)  # after each run: what was measured stays if the next one fails
        show(rows)


if __name__ == "__main__":
    main()
