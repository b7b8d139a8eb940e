"""One network for several densities against a network for each: what the dial costs in accuracy.

All train the same architecture on the same clients with the same seed and optimizer:

    alone    a network for each density, trained for that one
    levels   one network for all of them, a level drawn for each batch, the highest distilled into the others

Both train `--rounds`, so that a level of the one network sees its share of the batches that a network of its own sees;
with `--more-rounds` a second network of levels trains so much longer. Accuracy is that of the test set at the end, the
mean of the last three rounds, each level at its own density.

Runs are kept below build/runs/ and go on where they stopped, also after Ctrl-C.

    python benchmarks/levels.py --data PATH/TO/cifar10 --train-images 10000 --image-size 16 --model resnet20 --workers 2
"""

import click
import numpy as np
from common import machine
from kept_runs import named_data, protocol_options, train
from result_file import write_result

from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.tables import console, table
from fedgate.train.config.declare import floats
from fedgate.train.config.resolve import resolve

LAST = 3  # rounds whose mean is the accuracy of a run's end


def accuracies(rounds):
    """Accuracy by level at the end of a run, from its rounds' rows."""
    return np.mean([row["accuracy_by_level"] for row in rounds[-LAST:]], axis=0)


def compare(densities, alone, together):
    """Flat rows: by density the accuracy of its own network and of the network of levels, and the points lost.

    alone: by density the rounds of its network; together: those of the network of levels.
    """
    for level, (density, one) in enumerate(zip(densities, accuracies(together), strict=True)):
        own = float(accuracies(alone[density])[0])
        yield {"density": density, "alone": own, "levels": float(one), "lost": 100 * (own - float(one)), "level": level}


def show(rows):
    made = table("seed", "rounds", "density", "alone", "one network", "points lost", title="test accuracy", right=6)
    for row in rows:
        figures = f"{100 * row['alone']:.2f} %", f"{100 * row['levels']:.2f} %", f"{row['lost']:.2f}"
        made.add_row(str(row["seed"]), str(row["rounds_of_levels"]), f"{row['density']:g}", *figures)
    console().print(made)


@click.command()
@protocol_options(seeds=(0,))
@click.option("--density", "densities", callback=floats, default="0.25,0.5,0.75,1.0", show_default=True)
@click.option("--more-rounds", multiple=True, default=(), type=click.IntRange(1), help="Of a second network of levels.")
def main(data, train_images, model, densities, more_rounds, seeds, workers, quick, json_path, **options):
    """Compare one network for several densities with a network for each."""
    if quick:
        data, train_images, seeds, options = "digits", None, seeds[:1], options | {"rounds": 6, "local_epochs": 2}
    data, name = named_data(data, train_images)
    options |= {"data": data, "model": model or ("cnn" if data == "digits" else "resnet32")}
    console().print(", ".join(f"{key} {value}" for key, value in (machine() | {"data": name}).items()), soft_wrap=True)
    rows = []
    for seed in seeds:
        try:
            run = {density: resolve(density=(density,), seed=seed, **options) for density in densities}
            alone = {density: train(config, workers) for density, config in run.items()}
            for more in (0, *more_rounds):
                longer = options | {"rounds": options["rounds"] + more}
                together = train(resolve(density=densities, seed=seed, **longer), workers)
                facts = options | {"seed": seed, "data": name, "rounds_of_levels": longer["rounds"]}
                rows += [row | facts for row in compare(densities, alone, together)]
                show(rows)
                write_result(json_path, rows)  # after each network: what was measured stays if the next one fails
        except FedgateError as error:
            raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
