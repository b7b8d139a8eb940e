"""Latency of programs with closed channels against the dense one: batch 1, float32, each runtime on this machine's CPU.

Programs of one runtime and model are timed in turn in one process of their own (`device_runtime.bench.interleave`), on
calibrated images, and told as ratios to the dense program of that runtime in the same rounds.

    dense       the network without gates; its convolutions are those of all the others
    masked      gates on stock operators, nothing skipped; at the density nearest to 0.5
    static      fixed masks: the channels that the images open most often, the scale of each input kept
    slim        a plain network with the widths of `static` and no gates (calibrate.slim_network)
    skip        channels skipped for each input by the kernel: one program, its level, so its density, an input
    dense-int8  the dense network by the runtime's own quantiser, static, weights per channel (int8.py); not of onnx,
                which is measured where --runtime asks for it

Networks are untrained and calibrated (calibrate.py). Before anything is timed, each program is run on the images that
will be timed, with as many threads, and compared with eager PyTorch, masks and logits, by `export.check`; of
dense-int8 the error is only told. A program that cannot be made, or is wrong, becomes a row with the reason.

ratio_to_dense is paired: the median of the rounds' ratios, with its 95 % interval. ratio_to_best_dense is not: p50 over
the p50 of the fastest float32 dense program of any runtime that this invocation measured for the model and number of
threads, in another process and at another time. Look at it beside the first: ExecuTorch 1.4.1's wheel carries an
XNNPACK whose kernel for AVX2 spills an accumulator to the stack, so without AVX-512 its dense program takes 2.5 times
as long as LiteRT's, and a ratio to that alone would flatter.

executed_macs counts convolutions, linear layers and gates as `fedgate.device_runtime.formats.macs` does: of `skip` what
its kernel counted, and stock layers in full (also a linear one behind a gate, of which asked_macs counts the open
channels alone). The 1x1 scatters of `static` are not among them.

    python benchmarks/latency --data PATH/TO/cifar10 --json latency.json --plot latency.png
"""

import click
from common import machine
from latency.measure import RUNTIMES, add_best_dense, can_be_made, kernel, measured
from latency.programs import ROLES, lower_all, subject, variants
from latency.table import plot, show
from result_file import json_option, write_result
from rich.console import Console

from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.kernels.library import KernelLibrary
from fedgate.device_runtime.tables import console

MODELS = ("resnet32", "vgg16", "resnet18", "resnet18-224")


def parse_densities(_context, _option, text):
    if text is None:
        return None
    try:
        densities = tuple(sorted({float(part) for part in text.split(",")}))
    except ValueError:
        densities = ()
    if not densities or not all(0 < density <= 1 for density in densities):
        raise click.BadParameter(f"'{text}' is no list of numbers above 0 and up to 1, as 0.25,0.5")
    return densities


@click.command()
@click.option("--model", "models", multiple=True, help=f"NAME or NAME-SIZE; by default {', '.join(MODELS)}.")
@click.option("--runtime", "runtimes", multiple=True, type=click.Choice(RUNTIMES), default=RUNTIMES, show_default=True)
@click.option("--role", "roles", multiple=True, type=click.Choice(ROLES), default=ROLES, help="dense is always there.")
@click.option("--density", "densities", callback=parse_densities, help="By default 0.25,0.5,0.75; --quick: 0.25,0.5.")
@click.option("--threads", multiple=True, type=click.IntRange(1), help="By default 1 and 2.")
@click.option("--data", help="As in `fedgate train`; smooth noise without it, called synthetic.")
@click.option("--seconds", type=float, help="For each runtime, model and number of threads: 60, with --quick 3.")
@click.option("--fresh", is_flag=True, help="Lower again what lies below build/latency/.")
@click.option("--quick", is_flag=True, help="ResNet-20, one thread and less of all, for what is not named.")
@json_option
@click.option("--plot", "plot_path", type=click.Path(), help="Draw latency against density here.")
def main(models, runtimes, roles, densities, threads, data, seconds, fresh, quick, json_path, plot_path):
    """Measure latency on this machine."""
    models = models or (("resnet20",) if quick else MODELS)
    threads = threads or ((1,) if quick else (1, 2))
    densities = densities or ((0.25, 0.5) if quick else (0.25, 0.5, 0.75))
    seconds = seconds or (3.0 if quick else 60.0)
    out, rows = console(), []
    facts = machine()
    reason, library = kernel() if "skip" in roles else (None, None)
    if reason:
        out.print(f"no skip programs: {reason}", soft_wrap=True)
        roles = [role for role in roles if role != "skip"]
    common = {"cpu": facts["cpu"], "isa": KernelLibrary(library).isas[0] if library else None}
    out.print(", ".join(f"{key} {value}" for key, value in (facts | common).items()), soft_wrap=True)
    with Console(stderr=True).status("") as status:
        for name in models:
            status.update(f"calibrating {name}")
            try:
                of = subject(name, densities, data, quick)
                made = variants(of, roles)
            except FedgateError as error:
                raise click.ClickException(str(error)) from error
            mine = []
            for runtime in runtimes:
                usable = [variant for variant in made if can_be_made(variant, runtime)]
                for role in dict.fromkeys(variant.role for variant in made if variant not in usable):
                    out.print(f"no {role} program of {of.name} for {runtime} in this version")
                lowered = lower_all(of, usable, runtime, fresh, status)
                for count in threads:
                    found = measured(of, lowered, runtime, count, seconds, status)
                    mine += [one | common for one in found]
            add_best_dense(mine)
            rows += mine
            for runtime in runtimes:
                show(out, of, runtime, [found for found in mine if found["runtime"] == runtime])
            write_result(json_path, rows)  # after each model: what was measured stays if the next one fails
    if plot_path:
        plot(rows, plot_path)
    wrong = [found for found in rows if found["reason"] and found["role"] != "dense-int8"]
    if wrong:
        raise click.ClickException(f"{len(wrong)} rows have a reason in the place of a measurement")
