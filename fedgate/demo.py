"""`fedgate demo`: the whole pipeline on scikit-learn's 8x8 digits, each step with the command that repeats it."""

import json
import os
import shutil
import time
from pathlib import Path

import click

STEPS = ("gated", "dense", "digits.fedgate")
TRAINING = ["--data", "digits", "--clients", "8", "--partition", "dirichlet:0.3"]


@click.command(short_help="Run the whole pipeline on the embedded digits data.")
@click.option("--out", type=click.Path(), default="runs/demo", show_default=True, metavar="DIR", help="Where it goes.")
@click.option(
    "--workers",
    type=click.IntRange(1),
    default=min(2, os.cpu_count() or 1),
    show_default=True,
    help="Processes for training.",
)
def demo(out, workers):
    """Train a gated and a dense network federatedly, export, verify and measure them; under two minutes, no network.

    An earlier demo in the same place is replaced.

    \b
    Example:
      fedgate demo --out runs/demo
    """
    from fedgate.device_runtime.errors import UsageError

    started, out = time.perf_counter(), Path(out)
    if out.exists() and not set(os.listdir(out)) <= set(STEPS):
        raise UsageError(f"{out} holds other files than an earlier demo's: choose another --out")
    for name in STEPS:
        shutil.rmtree(out / name, ignore_errors=True)
    gated, dense, bundle = (str(out / name) for name in STEPS)
    shared = [*TRAINING, "--workers", str(workers)]
    run(["train", *shared, "--density", "0.5", "--out", gated])
    run(["train", *shared, "--gate", "none", "--out", dense])
    run(["export", gated, "--dense", dense, "--out", bundle])
    run(["verify", bundle])
    click.echo(f"\n$ fedgate bench {bundle}")
    summary(gated, dense, bundle)
    click.echo(f"\nThe pipeline took {time.perf_counter() - started:.0f} s. Next: fedgate inspect {bundle}")


def run(arguments):
    """Show a command, then run it in this process."""
    from fedgate.cli import cli

    click.echo(f"\n$ fedgate {' '.join(arguments)}")
    cli.main(arguments, prog_name="fedgate", standalone_mode=False)


def summary(gated, dense, bundle):
    """The closing table: accuracy, MACs and latency of every program, bytes of the two runs, where the files are."""
    from fedgate.device_runtime.bench import bench
    from fedgate.device_runtime.bundle import load_bundle
    from fedgate.device_runtime.engines import load_program
    from fedgate.device_runtime.tables import console, table

    loaded = load_bundle(bundle)
    result = bench(loaded, seconds=5.0)
    images, labels = test_set(gated)
    programs = {program.file: program for program in loaded.manifest.programs}
    columns = ("test accuracy", "MACs asked", "MACs executed", "p50 ms", "time / dense")
    made = table("engine", "program", *columns, title="8x8 digits, batch 1, one thread", right=5)
    for row in result["rows"]:
        program = load_program(loaded, programs[row["program"]])
        level = loaded.manifest.default_level if program.program.takes_level else None
        hits = [
            program.run(image[None], level)[0].argmax() == label for image, label in zip(images, labels, strict=True)
        ]
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
    for name, path in (("gated", gated), ("dense", dense)):
        up, down = sent_bytes(path)
        out.print(f"{name} training sent {up / 1e6:.1f} MB up and {down / 1e6:.1f} MB down")
    out.print("`masked` computes every channel: it runs everywhere and shows that the masks are right, not a speed.")
    for text in result["warnings"]:
        out.print(f"the machine was noisy: {text}")
    out.print(f"files: {gated}/ {dense}/ {bundle}/", soft_wrap=True)


def test_set(run_path):
    """The test images of a run's data as its programs take them, float32 (n, C, H, W), and their labels (n,)."""
    from fedgate.train.augment import normalise
    from fedgate.train.ingredients import run_data
    from fedgate.train.run_directory import RunDirectory

    data = run_data(RunDirectory.open(run_path).info.config)
    return normalise(data.test_images, data.mean, data.std).numpy(), data.test_labels.numpy()


def sent_bytes(run_path):
    """Bytes that a run's clients sent up and got down: sums over the rounds of its metrics.jsonl."""
    lines = (Path(run_path) / "metrics.jsonl").read_text().splitlines()
    rounds = [row for row in map(json.loads, lines) if row["client"] is None]
    return sum(row["bytes_up"] for row in rounds), sum(row["bytes_down"] for row in rounds)
