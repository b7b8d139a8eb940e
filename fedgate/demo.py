"""`fedgate demo`: the whole pipeline on digits or on the user's images, each step with the command that repeats it."""

import json
import os
import shlex
import shutil
import time
from pathlib import Path

import click

CLIENTS = ["--clients", "8", "--partition", "dirichlet:0.3"]
OWN_DATA = ["--model", "resnet20", "--local-epochs", "1"]  # of a user's images, whose number nobody knows
IMAGE_SIZE = ["--image-size", "32"]
MOST_TESTED = 500  # test images that every program classifies, one by one


@click.command(short_help="Run the whole pipeline, on digits or on your images.")
@click.option(
    "--data",
    default="digits",
    show_default=True,
    metavar="NAME",
    help="As of fedgate train, such as a folder of images by class; other data than digits are trained on at 32x32.",
)
@click.option(
    "--out",
    type=click.Path(),
    metavar="DIR",
    help="Where it goes.  [runs/demo, or runs/NAME of the data]",
)
@click.option("--rounds", type=click.IntRange(1), help="Of training; more for better accuracy.  [as fedgate train]")
@click.option(
    "--workers",
    type=click.IntRange(1),
    default=min(2, os.cpu_count() or 1),
    show_default=True,
    help="Processes for training.",
)
def demo(data, out, rounds, workers):
    """Train a gated and a dense network federatedly, export, verify and measure them; no network. Digits take two
    minutes on two cores.

    An earlier demo in the same place is replaced.

    \b
    Example:
      fedgate demo
      fedgate demo --data photos     # photos/CLASS/IMAGE
    """
    from fedgate.device_runtime.errors import UsageError
    from fedgate.device_runtime.text import say

    name = Path(data).expanduser().resolve().name
    started, out = time.perf_counter(), Path(out or ("runs/demo" if data == "digits" else f"runs/{name}"))
    steps = ("gated", "dense", f"{name}.fedgate")
    if out.exists() and not set(os.listdir(out)) <= set(steps):
        raise UsageError(f"{out} holds other files than an earlier demo's: choose another --out")
    for step in steps:
        shutil.rmtree(out / step, ignore_errors=True)
    gated, dense, bundle = (str(out / step) for step in steps)
    shared = ["--data", data, *CLIENTS, *own_data(data), "--workers", str(workers)]
    if rounds is not None:
        shared += ["--rounds", str(rounds)]
    run(["train", *shared, "--density", "0.5", "--out", gated])
    run(["train", *shared, "--gate", "none", "--out", dense])
    run(["export", gated, "--dense", dense, "--out", bundle])
    run(["verify", bundle])
    click.echo()
    say(f"{bundle}, measured as fedgate bench does:")
    summary(gated, dense, bundle)
    click.echo()
    say(f"The pipeline took {time.perf_counter() - started:.0f} s. Next: fedgate inspect {bundle}")


def own_data(data):
    """The options of training that other data than digits get."""
    is_cifar = Path(data).is_file() or Path(data, "test_batch.bin").is_file()  # which has one size, and no option
    return [] if data == "digits" else OWN_DATA if is_cifar else [*OWN_DATA, *IMAGE_SIZE]


def run(arguments):
    """Show a command, then run it in this process."""
    from fedgate.cli import cli
    from fedgate.device_runtime.text import say

    click.echo()
    say(f"$ fedgate {shlex.join(arguments)}")
    cli.main(arguments, prog_name="fedgate", standalone_mode=False)


def summary(gated, dense, bundle):
    """The closing table: accuracy, MACs and latency of every program, bytes of the two runs, where the files are."""
    from fedgate.device_runtime.bench.latency import BenchOptions, bench
    from fedgate.device_runtime.engines import open_program
    from fedgate.device_runtime.formats.bundle import load_bundle
    from fedgate.device_runtime.tables import console, table

    loaded = load_bundle(bundle)
    result = bench(loaded, BenchOptions(seconds=5.0))
    programs = {program.file: program for program in loaded.manifest.programs}
    tested, all_tested = test_set(gated)
    height, width = loaded.manifest.shape[2:]
    columns = ("test accuracy", "MACs asked", "MACs executed", "p50 ms", "time / dense")
    made = table(
        "runtime",
        "program",
        *columns,
        title=f"{loaded.manifest.dataset}, {height}x{width}, batch 1, one thread",
        right=5,
    )
    for row in result["rows"]:
        model, level = open_program(loaded, programs[row["program"]]), loaded.manifest.default_level
        hits = [model.run(image[None], level).logits.argmax() == label for image, label in tested]
        made.add_row(
            row["runtime"],
            row["role"],
            f"{100 * sum(hits) / len(hits):.1f} %",
            f"{row['asked_macs']:,}",
            f"{row['executed_macs']:,}",
            f"{row['p50_ms']:.3f}",
            "-" if row["ratio_to_dense"] is None else f"{row['ratio_to_dense']:.2f}",
        )
    out = console()
    out.print(made)
    if len(tested) < all_tested:
        out.print(f"test accuracy: of {len(tested)} of the {all_tested:,} test images")
    for name, path in (("gated", gated), ("dense", dense)):
        up, down = sent_bytes(path)
        out.print(f"{name} training sent {up / 1e6:.1f} MB up and {down / 1e6:.1f} MB down")
    out.print("`masked` computes every channel: it runs everywhere and shows that the masks are right, not a speed.")
    for text in result["warnings"]:
        out.print(f"the machine was noisy: {text}")
    out.print(f"files: {gated}/ {dense}/ {bundle}/", soft_wrap=True)


def test_set(run_path):
    """Test images of a run's data as its programs take them, each float32 (C, H, W) with its label: at most
    `MOST_TESTED`, taken at equal steps, since folders are read class by class; and how many there are in all."""
    from fedgate.train.data.augment import normalise
    from fedgate.train.ingredients import run_data
    from fedgate.train.server.run_directory import RunDirectory

    data, _ = run_data(RunDirectory.open(run_path).info)
    count = len(data.test_labels)
    chosen = [i * count // min(count, MOST_TESTED) for i in range(min(count, MOST_TESTED))]
    images = normalise(data.test_images[chosen], data.mean, data.std).numpy()
    return list(zip(images, data.test_labels[chosen].tolist(), strict=True)), count


def sent_bytes(run_path):
    """Bytes that a run's clients sent up and got down: sums over the rounds of its metrics.jsonl."""
    lines = (Path(run_path) / "metrics.jsonl").read_text().splitlines()
    rounds = [row for row in map(json.loads, lines) if row["client"] is None]
    return sum(row["bytes_up"] for row in rounds), sum(row["bytes_down"] for row in rounds)
