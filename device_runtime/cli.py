"""The device commands: inspect, verify, predict and bench. What they do stands in the modules they call."""

import json

import click

from .runtime_option import runtime_option
from .selection import selection_options
from .targets.request import InputPath, target_options

BUNDLE = click.argument("bundle", metavar="NAME.fedgate")
RUNTIME = runtime_option("executorch, litert or onnx; default: all that are installed.")
PERSONAL = click.option(
    "--personal", type=InputPath(), metavar="FILE", help="By `fedgate finetune`: its parameters in the bundle."
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")


@click.command()
@BUNDLE
@JSON
def inspect(bundle, as_json):
    """Show what is inside a bundle: programs, hashes, and MACs by layer at every density.

    \b
    Example:
      fedgate inspect digits.fedgate
    """
    from .formats.bundle import load_bundle
    from .summary import summarise

    summary = summarise(load_bundle(bundle))
    if as_json:
        return _print_json(summary)
    from .tables import print_summary

    print_summary(summary)


@click.command()
@BUNDLE
@RUNTIME
@PERSONAL
@target_options
@JSON
def verify(bundle, runtime, personal, target, python, as_json):
    """Run every program of a bundle that can run here, against its reference outputs and masks.

    \b
    Example:
      fedgate verify digits.fedgate --runtime litert
    """
    from .errors import FedgateError
    from .formats.bundle import load_bundle
    from .targets import elsewhere
    from .tuning.verify import verify_personal
    from .verify import verify as verify_bundle

    there = elsewhere()
    if there:
        rows = there["programs"]
    elif personal:
        rows = verify_personal(load_bundle(bundle), personal, runtime)
    else:
        rows = verify_bundle(load_bundle(bundle), runtime)
    if as_json:
        _print_json({"bundle": bundle, "programs": rows})
    else:
        from .tables import print_verification

        print_verification(rows)
    wrong = [row for row in rows if row["status"] == "mismatch"]
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise FedgateError(f"{wrong[0]['file']} does not match its reference: {wrong[0]['reason']}{more}")


@click.command()
@BUNDLE
@click.argument("images", metavar="IMAGE|FOLDER...", nargs=-1, required=True)
@selection_options
@PERSONAL
@JSON
def predict(bundle, images, chosen, personal, as_json):
    """Classify pictures, and show which channels of the network ran.

    Of a folder all pictures are taken. Pictures that cannot be read are told after the others; the exit status is 1.

    \b
    Example:
      fedgate predict digits.fedgate three.png --density 0.5
      fedgate predict digits.fedgate photos --json
    """
    from .errors import FedgateError
    from .formats.bundle import load_bundle
    from .predict import more_than_one
    from .predict import predict as predict_images

    result = predict_images(load_bundle(bundle), images, chosen, personal)
    if as_json:
        _print_json(result)
    else:
        from .tables import print_predictions

        print_predictions(result)
    for note in result["left_out"]:
        click.echo(note, err=True)
    if result["unreadable"]:
        raise FedgateError(f"{result['unreadable'][0]['reason']}{more_than_one(result['unreadable'])}")


@click.command()
@BUNDLE
@selection_options
@click.option("--threads", type=int, default=1, show_default=True, help="Threads of each runtime.")
@click.option("--seconds", type=float, default=10.0, show_default=True, help="How long to measure.")
@click.option("--rounds", type=int, help="Measure this many rounds instead.")
@click.option("--cpus", metavar="LIST", help="Run on these CPUs alone, such as 4-7.")
@click.option("--sustained", type=float, metavar="SECONDS", help="Then run each program alone for so long.")
@PERSONAL
@target_options
@JSON
def bench(bundle, chosen, threads, seconds, rounds, cpus, sustained, personal, target, python, as_json):
    """Measure the latency of a bundle's programs, batch 1, on this machine or on a --target.

    Programs take turns in one process, and are compared round by round with the dense program of the same runtime.
    On an emulated CPU the instructions of --rounds inferences are counted instead: no latency.
    What the board tells of its clocks, temperatures, throttling and power is noted before, meanwhile and after.

    \b
    Example:
      fedgate bench digits.fedgate --runtime litert --threads 1
      fedgate bench digits.fedgate --runtime litert --role skip --cpus 3 --sustained 300
      fedgate bench digits.fedgate --target ssh:pi@raspberrypi --python venv/bin/python
      fedgate bench digits.fedgate --target emulated:cortex-a72
    """
    from .bench.latency import BenchOptions
    from .bench.latency import bench as bench_bundle
    from .formats.bundle import load_bundle
    from .targets import elsewhere

    there = elsewhere()
    options = BenchOptions(chosen, threads, rounds, seconds, sustained, cpus, personal)
    result = there or bench_bundle(load_bundle(bundle), options)
    if as_json:
        return _print_json(result)
    from .tables import print_bench, print_counts

    (print_counts if result.get("kind") == "counts" else print_bench)(result)


def _print_json(value) -> None:
    click.echo(json.dumps(value, indent=1))
