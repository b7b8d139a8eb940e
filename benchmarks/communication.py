"""Bytes until the accuracy of dense FedAvg: what a federated training sends, up and down, to be as good.

Every arm trains the same architecture on the same clients with the same seed and optimizer:

    dense        no gates, float32 weights both ways: FedAvg as published
    dense-int8   the same network, differences in int8 both ways: what the codec alone is worth; dense-int4 likewise
    gated        gates at `--density`, salient updates, float32 both ways
    gated-int8   gates, salient updates, int8 both ways; gated-int4 likewise; gated-int4-90 with --upload-share 0.9

The dense arm trains `--rounds`; the others as many and `--more-rounds` beyond, which cost them bytes. A seed's target
is the mean test accuracy of its dense arm over the last three rounds, less a margin in points. An arm is there in the
first round whose accuracy reaches the target; a gated network is judged at the density of its round. Bytes are those
of metrics.jsonl: the lengths of the blobs that crossed, of all clients, up to and with that round.

Runs are kept below build/runs/ and go on where they stopped, also after Ctrl-C.

    python benchmarks/communication.py --data PATH/TO/cifar10 --train-images 10000 --workers 2 --json communication.json
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

INT8, INT4 = ({"codec": codec, "download_codec": codec} for codec in ("int8", "int4"))
ARMS = {
    "dense": {"gate": "none", "upload": "full"},
    "dense-int8": {"gate": "none", "upload": "full", **INT8},
    "dense-int4": {"gate": "none", "upload": "full", **INT4},
    "gated": {"gate": "paper", "upload": "salient"},
    "gated-int8": {"gate": "paper", "upload": "salient", **INT8},
    "gated-int4": {"gate": "paper", "upload": "salient", **INT4},
    "gated-int4-90": {"gate": "paper", "upload": "salient", "upload_share": 0.9, **INT4},
}
LAST = 3  # rounds whose mean is the accuracy of a run's end


def summarise(arm, seed, rounds, dense, margins):
    """The flat rows of one run, one a margin; rounds, dense: the round rows of the arm and of the dense one."""
    accuracy = [row["accuracy"] for row in rounds]
    sent = np.cumsum([row["bytes_up"] + row["bytes_down"] for row in rounds])
    uploads = np.cumsum([row["bytes_up"] for row in rounds])
    reference = float(np.mean([row["accuracy"] for row in dense[-LAST:]]))
    for margin in margins:
        enough = reference - margin / 100 - 1e-9  # a mean of equal numbers may be above them
        there = next((i for i, value in enumerate(accuracy) if value >= enough), None)
        dense_there = next(i for i, row in enumerate(dense) if row["accuracy"] >= enough)
        spent = sum(row["bytes_up"] + row["bytes_down"] for row in dense[: dense_there + 1])
        spent_up = sum(row["bytes_up"] for row in dense[: dense_there + 1])
        yield {
            "arm": arm,
            "seed": seed,
            "margin": margin,
            "target": reference - margin / 100,
            "rounds_to_target": None if there is None else there + 1,
            "bytes": None if there is None else int(sent[there]),
            "ratio_to_dense": None if there is None else float(sent[there] / spent),
            "ratio_of_uploads": None if there is None else float(uploads[there] / spent_up),
            "final_accuracy": float(np.mean(accuracy[-LAST:])),
            "best_accuracy": max(accuracy),
            "bytes_a_round": float(sent[-1] / len(rounds)),
            "macs_per_sample": rounds[-1]["macs_per_sample"],
        }


def show(rows):
    heads = ("seed", "arm", "final accuracy", "MB a round", "target", "rounds", "MB to target", "to dense", "uploads")
    made = table(*heads, title="bytes up and down until the accuracy of dense FedAvg", right=7)
    for row in rows:
        reached = row["rounds_to_target"] is not None
        made.add_row(
            str(row["seed"]),
            row["arm"],
            f"{100 * row['final_accuracy']:.2f} %",
            f"{row['bytes_a_round'] / 1e6:.2f}",
            f"{100 * row['target']:.2f} %",
            str(row["rounds_to_target"]) if reached else "never",
            f"{row['bytes'] / 1e6:.1f}" if reached else "",
            f"{row['ratio_to_dense']:.3f}" if reached else "",
            f"{row['ratio_of_uploads']:.3f}" if reached else "",
        )
    console().print(made)


@click.command()
@protocol_options(seeds=(0, 1))
@click.option("--density", default=0.5, show_default=True)
@click.option("--more-rounds", default=0, show_default=True, help="Of the arms beside dense.")
@click.option(
    "--arm", "arms", multiple=True, type=click.Choice(list(ARMS)), default=tuple(ARMS), help="dense is always there."
)
@click.option("--margin", "margins", callback=floats, default="0,1,2", show_default=True, help="Points below dense.")
def main(
    data,
    train_images,
    image_size,
    model,
    density,
    seeds,
    arms,
    margins,
    workers,
    quick,
    json_path,
    more_rounds,
    **options,
):
    """Measure the bytes to the accuracy of dense FedAvg."""
    if quick:
        data, train_images, seeds, options = "digits", None, seeds[:1], options | {"rounds": 6, "local_epochs": 2}
    data, name = named_data(data, train_images)
    model = model or ("cnn" if data == "digits" else "resnet32")
    console().print(", ".join(f"{key} {value}" for key, value in (machine() | {"data": name}).items()), soft_wrap=True)
    rows = []
    for seed in seeds:
        dense = None
        for arm in ("dense", *(arm for arm in arms if arm != "dense")):
            chosen = ARMS[arm]
            densities = (density,) if chosen["gate"] == "paper" else (1.0,)
            try:
                rounds = options["rounds"] + (more_rounds if arm != "dense" else 0)
                same = {"data": data, "image_size": image_size, "model": model, "density": densities, "seed": seed}
                config = resolve(**same, **chosen, **options | {"rounds": rounds})
                rounds = train(config, workers)
            except FedgateError as error:
                raise click.ClickException(str(error)) from error
            dense = dense or rounds
            found = list(summarise(arm, seed, rounds, dense, margins))
            rows += [
                row | {"data": name, "model": model, "density": densities[0], **options, "more_rounds": more_rounds}
                for row in found
            ]
            show(found)
            write_result(json_path, rows)  # after each run: what was measured stays if the next one fails


if __name__ == "__main__":
    main()
