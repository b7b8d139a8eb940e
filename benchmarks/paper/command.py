"""The paper's questions, asked on one data set: what gates are worth to a federated training, and on a device.

    a  over-fitting: is the gap between training and test images smaller with gates, overall and for each client?
    b  communication: rounds and bytes up and down to dense FedAvg's accuracy, by FedAvg, FedProx, FedNova and SCAFFOLD,
       dense and gated, gated clients sending all channels or those that their training opened; codecs with FedAvg alone
    c  accuracy against executed MACs: `paper` and `fbs` gates at several densities, beside their controls of the same
       MACs: slim networks, networks with narrow residual blocks and whole streams, both also with a scale for each
       input, gates inside of the blocks alone, and each gated network's own `static` one
    d  latency, MACs and accuracy together: c's networks as programs of each runtime, batch 1, one thread, ratios to
       dense in the same rounds of one process (see latency/)

All arms of a question have the same architecture (but the slim ones), data, seeds, rounds and optimizer. a and b are
federations, an epoch a round; c and d train one client that has all images, three epochs a round. `--budget MINUTES`
measures how fast this machine trains and takes as many images, for ten epochs or a few more, as all arms of the chosen
parts can be trained on in that time; once all images are used, more rounds; images are halved where few would fit. So a
small budget gives under-trained networks, and the rows say how many images and rounds they had. `--preset paper-v2`
takes the published experiment as it is instead, for all parts; that is for a GPU.

An arm is as good as dense FedAvg in the first round whose test accuracy reaches the mean of dense FedAvg's last three,
less a margin. Spreads are from the lowest to the highest seed. Runs are kept below build/runs/ and go on where they
stopped, also after Ctrl-C, by the same command; the budget that was chosen is kept there, too.

    python benchmarks/paper --data PATH/TO/cifar10 --budget 60 --seeds 0,1 --json paper.json --figures paper
"""

import dataclasses
from pathlib import Path

import click
from common import machine
from paper.answers import accuracy_row, byte_rows, gap_row, verdicts
from paper.arms import KINDS, PARTS
from paper.budget import Size
from paper.figures import draw
from paper.groups import SMALL, Source, choose_sizes, groups_of, kept_choice
from paper.latency import latency_rows
from paper.runs import finished, static_of
from paper.tables import show
from result_file import json_option, write_result

from fedgate.device_runtime.errors import FedgateError, UsageError, choose
from fedgate.device_runtime.tables import console
from fedgate.train.config.declare import floats
from fedgate.train.config.presets import PRESETS
from fedgate.train.config.resolve import resolve


def ask(groups, sizes, source, seeds, workers, seconds, tell):
    """Yield all rows found so far after each training, and once more with those of question d; tell: shows a line."""
    rows, trained = [], {}
    for group, size in zip(groups, sizes, strict=True):
        options = group.options | {"data": source.at(size), "rounds": size.rounds}
        facts = {**group.options, "data": source.name, **dataclasses.asdict(size)}
        for seed in seeds:
            dense = None
            for arm in group.arms:
                tell(f"seed {seed}: {arm.name}")
                run = finished(resolve(**options | arm.options, seed=seed), workers)
                dense = dense or run
                trained[seed, arm.name] = run.path
                rows += [row | facts for row in answers(group.parts, arm, seed, run, dense)]
                yield rows
        if "d" in group.parts:
            first = [(arm, trained[seeds[0], arm.name]) for arm in group.arms]
            judged = [row for row in rows if row["part"] == "c"]
            rows += [row | {"seed": seeds[0]} | facts for row in latency_rows(first, judged, seconds)]
            yield rows


def answers(parts, arm, seed, run, dense):
    """The rows that a run gives to questions a, b and c; d puts latencies beside those of c."""
    if ("a" in parts or "c" in parts) and "codec" not in arm.options:
        yield gap_row(arm, seed, run.evaluated)
    if "b" in parts:
        yield from byte_rows(arm, seed, run.rounds, dense.rounds)
    if "c" in parts or "d" in parts:
        yield accuracy_row(arm, seed, run.evaluated, static_of(run.path) if arm.chooses else None)


def integers(_context, _option, text):
    try:
        return tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise click.BadParameter(f"'{text}' is no list of whole numbers, as 0,1") from None


def questions(_context, _option, text):
    try:
        for part in text.split(","):
            choose("part", part, PARTS)
    except UsageError as error:
        raise click.BadParameter(str(error)) from error
    return tuple(part for part in PARTS if part in text.split(","))


@click.command()
@click.option("--data", default="digits", show_default=True, help="As in `fedgate train`.")
@click.option("--part", "parts", callback=questions, default="a,b,c,d", show_default=True)
@click.option("--budget", type=click.FloatRange(0, min_open=True), metavar="MINUTES", help="By default 60.")
@click.option("--rounds", type=click.IntRange(1), help="So many in the place of a budget.")
@click.option("--train-images", type=click.IntRange(1), help="With --rounds: the first of a folder of parquet files.")
@click.option("--test-images", type=click.IntRange(1), help="Likewise.")
@click.option("--preset", type=click.Choice(sorted(PRESETS)), help="This experiment of `fedgate train` for all parts.")
@click.option("--image-size", type=click.IntRange(1), help="Resize every image.")
@click.option("--model", help="By default resnet20, on digits cnn.")
@click.option("--clients", default=10, show_default=True, help="Of a and b.")
@click.option("--batch-size", default=32, show_default=True)
@click.option("--lr", default=0.1, show_default=True)
@click.option(
    "--density", "densities", callback=floats, default="0.25,0.5,0.75,1.0", show_default=True, help="Of c, d."
)
@click.option(
    "--kind", "kinds", multiple=True, type=click.Choice(list(KINDS)), help="Of c and d, beside dense; by default all."
)
@click.option("--gated-density", default=0.5, show_default=True, help="Of a and b.")
@click.option("--seeds", callback=integers, default="0,1", show_default=True)
@click.option("--seconds", default=30.0, show_default=True, help="Of timing, for each runtime.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes.")
@click.option("--quick", is_flag=True, help="The digits, three rounds, one seed, two densities.")
@click.option("--figures", type=click.Path(file_okay=False), help="Write each figure here as SVG and PNG.")
@json_option
def main(data, parts, budget, rounds, train_images, test_images, preset, image_size, model, clients, batch_size, lr,
         densities, kinds, gated_density, seeds, seconds, workers, quick, figures, json_path):  # fmt: skip
    """Ask the paper's questions: a over-fitting, b communication, c accuracy against MACs, d latency beside both."""
    if quick:
        data, train_images, test_images, image_size, rounds, seeds = "digits", None, None, None, 3, seeds[:1]
        densities, seconds, budget, preset = (0.5, 1.0), min(seconds, 1.0), None, None
    if sum(given is not None for given in (budget, rounds, preset)) > 1:
        raise click.UsageError("give one of --budget, --rounds and --preset")
    if rounds is None and (train_images or test_images):
        raise click.UsageError("--train-images and --test-images go with --rounds")

    def tell(text):
        click.echo(text, err=True)

    out, rows = console(), []
    try:
        source = Source.of(data)
        out.print(", ".join(f"{k} {v}" for k, v in (machine() | {"data": source.name}).items()), soft_wrap=True)
        model = model or ("cnn" if data == "digits" else "resnet20")
        options = {"model": model, "clients": clients, "batch_size": batch_size, "lr": lr, "image_size": image_size}
        pixels = image_size or source.shape[1]

        def groups():
            shape = source.shape[0], pixels, pixels
            return groups_of(
                parts, source.classes, shape, options, gated_density, densities, preset, kinds or tuple(KINDS)
            )

        if rounds or preset:
            rounds = rounds or PRESETS[preset].options["rounds"]
            sizes = [Size(train_images or source.images, test_images or source.tests, rounds)] * len(groups())
        else:
            sides = dict.fromkeys((pixels, pixels if image_size or not source.cut else max(SMALL, pixels // 2)))
            each = (budget or 60.0) / len(seeds)
            arguments = [source.name, parts, each, options, densities, gated_density, *kinds]
            pixels, sizes = kept_choice(arguments, lambda: choose_sizes(groups(), source, sides, each, tell))
            options["image_size"] = pixels if source.cut else None
        for group, size in zip(groups(), sizes, strict=True):
            tell(f"{', '.join(group.parts)}: {len(group.arms)} arms, {len(seeds)} seeds, {pixels} pixels, {size}")
        for rows in ask(groups(), sizes, source, seeds, workers, seconds, tell):
            write_result(json_path, rows)  # after each training: what was measured stays if the next one fails
    except FedgateError as error:
        raise click.ClickException(str(error)) from error
    show(out, rows)
    for line in verdicts(rows):
        out.print(line, soft_wrap=True)
    if figures:
        for path in draw(rows, Path(figures)):
            tell(str(path))
