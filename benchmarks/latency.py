"""Latency of programs with closed channels against the dense one: batch 1, float32, each runtime on this machine's CPU.

Programs of one runtime and model are timed in turn in one process of their own (`device_runtime.bench.interleave`), on
calibrated images, and told as ratios to the dense program of that runtime in the same rounds.

    dense       the network without gates; its convolutions are those of all the others
    masked      gates on stock operators, nothing skipped; at the density nearest to 0.5
    static      fixed masks: the channels that the images open most often, the scale of each input kept
    slim        a plain network with the widths of `static` and no gates (calibrate.slim_network)
    skip        channels skipped for each input by the kernel: one program, its level, so its density, an input
    dense-int8  the dense network by the runtime's own quantiser, static, weights per channel (int8.py)

Networks are untrained and calibrated (calibrate.py). Before anything is timed, each program is run on the images that
will be timed, with as many threads, and compared with eager PyTorch, masks and logits, by `export.check`; of
dense-int8 the error is only told. A program that cannot be made, or is wrong, becomes a row with the reason.

ratio_to_dense is paired: the median of the rounds' ratios, with its 95 % interval. ratio_to_best_dense is not: p50 over
the p50 of the fastest float32 dense program of any runtime that this invocation measured for the model and number of
threads, in another process and at another time. Look at it beside the first: ExecuTorch 1.4.1's wheel carries an
XNNPACK whose kernel for AVX2 spills an accumulator to the stack, so without AVX-512 its dense program takes 2.5 times
as long as LiteRT's, and a ratio to that alone would flatter.

executed_macs counts convolutions, linear layers and gates as `fedgate.device_runtime.macs` does: of `skip` what its
kernel counted, and stock layers in full (also a linear one behind a gate, of which asked_macs counts the open channels
alone). The 1x1 scatters of `static` are not among them.

    python benchmarks/latency.py --data PATH/TO/cifar10 --json latency.json --plot latency.png
"""

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import click
import numpy as np
import torch
from calibrate import benchmark_images, calibrated, most_opened, slim_network
from common import REPOSITORY, TimingProcess, bundle_of, keep, lowered_digest, machine, program_entry, summary
from int8 import lower_int8
from rich.console import Console
from torch import nn

from fedgate.device_runtime import macs
from fedgate.device_runtime.bench import noise
from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.kernels.build import KINDS, ensure, find
from fedgate.device_runtime.kernels.library import KernelLibrary
from fedgate.device_runtime.manifest import Program
from fedgate.device_runtime.predict import kernel_macs, stock_macs
from fedgate.device_runtime.tables import console, share, table
from fedgate.device_runtime.verify import relative_error
from fedgate.export.check import Comparison, compare_gated, compare_plain, mismatch
from fedgate.export.eval_networks import dense_network, masked_network, static_network
from fedgate.export.lowering import LOWERINGS, lower
from fedgate.export.programs import SKIP_ENGINES
from fedgate.export.reference import EagerReference, fixed_masks
from fedgate.export.skip import kernel_layers, skip_network
from fedgate.train.network import GatedNetwork, build_network

ROLES = ("dense", "masked", "static", "slim", "skip", "dense-int8")
RUNTIMES = ("executorch", "litert")
MODELS = ("resnet32", "vgg16", "resnet18", "resnet18-224")
DIAL = (0.25, 0.4, 0.5, 0.61, 0.75, 1.0)  # levels of ResNet-32's skip program: latency as a function of density
CLASSES = 10
LARGE = 128  # pixels from which on fewer images must do
CACHE = REPOSITORY / "build" / "latency"


# What is measured.


@dataclass
class Variant:
    """A program to be made, and what it is compared with.

    role: of the row. kind: of the program, as a manifest calls it. body: its eval network. network: the gated or plain
    one it comes from. level: of a static program. timed: the levels to time it at, [None] for one that takes none.
    compare: a `Played` -> `Comparison`. work: (a `Played`, a level) -> (executed MACs, MACs that the masks ask for).
    """

    role: str
    kind: str
    body: nn.Module
    network: GatedNetwork
    densities: list[float | None]  # of `timed`
    compare: Callable
    work: Callable
    level: int | None = None
    timed: tuple = (None,)
    kernel_layers: tuple = ()


@dataclass
class Subject:
    """A model at a size, calibrated: the gated network with all its levels, and the same convolutions without gates."""

    model: str
    size: int
    network: GatedNetwork
    dense: GatedNetwork
    densities: tuple[float, ...]  # those of static and slim programs
    calibration: torch.Tensor
    images: np.ndarray  # those to be timed
    data: str
    dense_macs: int

    @property
    def name(self):
        return f"{self.model} at {self.size}"


def subject(name, densities, data, quick):
    """The `Subject` of NAME or NAME-SIZE."""
    model, size = re.fullmatch(r"(.+?)(?:-(\d+))?", name).groups()
    size = int(size or 32)
    large = size >= LARGE
    shape = (3, size, size)
    calibration, label = benchmark_images(data, shape, (16 if large else 64) if quick else (64 if large else 256))
    levels = sorted({*densities, *(DIAL if name == "resnet32" and not quick else ())})
    torch.manual_seed(0)
    network = calibrated(build_network(model, "paper", levels, CLASSES, shape), calibration)
    torch.manual_seed(0)
    dense = calibrated(build_network(model, "none", (1.0,), CLASSES, shape), calibration)
    images = calibration[: 4 if large else 8].numpy()
    total = macs.total(macs.dense(dense.layers))
    return Subject(model, size, network, dense, densities, calibration, images, label, total)


def variants(of, roles):
    """The `Variant`s of a `Subject`, dense first: the others are told as ratios to it."""
    made = [plain(of, "dense", None, of.dense)]
    reference = EagerReference(of.network)
    if "masked" in roles:
        middle = min(range(len(of.network.densities)), key=lambda level: abs(of.network.densities[level] - 0.5))
        made.append(choosing(of, reference, "masked", masked_network(of.network), (middle,)))
    for density in of.densities:
        if "static" in roles:
            made.append(static(of, reference, density))
        if "slim" in roles:
            torch.manual_seed(0)
            narrow = slim_network(build_network(of.model, "paper", (density,), CLASSES, of.network.shape))
            made.append(plain(of, "slim", density, calibrated(narrow, of.calibration)))
    if "skip" in roles:
        made.append(choosing(of, reference, "skip", skip_network(of.network), tuple(range(len(of.network.densities)))))
    if "dense-int8" in roles:
        made.append(plain(of, "dense-int8", None, of.dense))
    return made


def plain(of, role, density, network):
    """A network without gates."""
    expected = EagerReference(network).dense(of.images)

    def compare(played):
        if role == "dense-int8":  # another function than the float network: how far off is told, not judged
            return Comparison(len(expected), relative_error(played.logits[0], expected))
        return compare_plain(played, of.images, expected)

    count = macs.total(macs.dense(network.layers))
    return Variant(role, "dense", dense_network(network), network, [density], compare, lambda *_: (count, count))


def static(of, reference, density):
    """The network with the masks that its images open most often at a density."""
    network, level = of.network, of.network.densities.index(density)
    kept = most_opened(network, of.calibration, level)
    masks = fixed_masks(network.layers, kept)
    expected = reference.run(of.images, level, masks)[0]
    count = int(macs.total(macs.executed(network.layers, masks))[0])
    return Variant(
        "static",
        "static",
        static_network(network, level, kept),
        network,
        [density],
        lambda played: compare_plain(played, of.images, expected),
        lambda *_: (count, count),
        level,
    )


def choosing(of, reference, role, body, timed):
    """The gated network as one program that chooses masks, its level an input."""
    network, layers = of.network, kernel_layers(body)
    facts = SimpleNamespace(layers=network.layers)

    def compare(played):
        result = compare_gated(played, reference, of.images, len(network.densities))
        for masks, counted in zip(played.open, played.kernel_macs, strict=True):
            asked = [kernel_macs(facts, played.program, mask[None]) for mask in masks]
            if asked != counted.tolist():
                raise mismatch(played.program, f"its kernel counts {counted.tolist()} MACs, its masks ask for {asked}")
        return result

    def work(played, level):
        asked = float(np.mean(macs.total(macs.executed(network.layers, played.open[level]))))
        return played.kernel_macs[level].mean() + stock_macs(facts, played.program), asked

    densities = [network.densities[level] for level in timed]
    return Variant(role, role, body, network, densities, compare, work, timed=timed, kernel_layers=layers)


# How it is measured.


def make_program(of, variant, engine, fresh):
    """The `Program` of a variant, lowered into `CACHE` where it is not there already. Raises `FedgateError`."""
    facts = (engine, of.model, of.network.shape, variant.role, variant.level, variant.densities)
    suffix, shape, takes_level = LOWERINGS[engine][0], of.network.shape, variant.kind in ("masked", "skip")

    def make():
        return lower(variant.body, engine, shape, takes_level)

    if variant.role == "dense-int8":
        images = of.calibration[: 8 if of.size >= LARGE else 32]
        facts += (Path(__file__).with_name("int8.py").read_text(), images.numpy().tobytes())

        def make():
            return lower_int8(variant.body, engine, shape, images)

    name = f"{engine}-{of.model}-{of.size}-{variant.role}-{lowered_digest(variant.body, *facts)}.{suffix}"
    keep(CACHE / name, make, fresh)
    return program_entry(name, engine, variant.kind, variant.network, variant.level, variant.kernel_layers)


@dataclass
class Lowered:
    """A variant as a runtime's program, or the reason why there is none."""

    variant: Variant
    program: Program | None = None
    reason: str | None = None


def lower_all(of, made, engine, fresh, status):
    """Lower the variants of a subject to an engine."""
    found = []
    for variant in made:
        status.update(f"lowering {of.name}, {engine} {variant.role}")
        try:
            found.append(Lowered(variant, make_program(of, variant, engine, fresh)))
        except Exception as error:  # converters raise what they like; the other programs can still be measured
            reason = str(error) if isinstance(error, FedgateError) else f"{type(error).__name__}: {error}"
            found.append(Lowered(variant, reason=" ".join(reason.split())[:300]))
    return found


def measured(of, lowered, engine, threads, seconds, status):
    """The rows of a subject on an engine with a number of threads: compared, timed and counted."""
    there = [entry for entry in lowered if entry.program is not None]
    rows = [made for entry in lowered if entry.reason for made in unmeasured(of, entry, engine, threads, entry.reason)]
    bundle = bundle_of(CACHE, of.network)
    right = []
    try:
        with TimingProcess(bundle, [entry.program for entry in there], of.images, threads) as process:
            status.update(f"comparing {of.name} with eager PyTorch, {engine}, {threads} thread(s)")
            for index, (entry, played) in enumerate(zip(there, process.outputs(), strict=True)):
                try:
                    if isinstance(played, FedgateError):
                        raise played
                    result = entry.variant.compare(played)
                except FedgateError as error:
                    rows += unmeasured(of, entry, engine, threads, str(error))
                    continue
                right += [(index, position, played, result) for position in range(len(entry.variant.timed))]
            if not right:
                return rows
            status.update(f"timing {of.name}, {engine}, {threads} thread(s)")
            levels = [there[index].variant.timed[position] for index, position, *_ in right]
            times, busy = process.times(
                [(entry[0], level) for entry, level in zip(right, levels, strict=True)], seconds
            )
    except FedgateError as error:  # the process itself is gone
        reasons = [(entry, entry.reason or str(error)) for entry in lowered]
        return [made for entry, reason in reasons for made in unmeasured(of, entry, engine, threads, reason)]
    dense = next((i for i, (index, *_) in enumerate(right) if there[index].variant.role == "dense"), None)
    for found, level, (index, position, played, result) in zip(summary(times, dense), levels, right, strict=True):
        variant = there[index].variant
        executed, asked = variant.work(played, level)
        made = row(of, variant, engine, threads, position) | found
        made |= {
            "program": there[index].program.file,
            "rounds": times.shape[1],
            "executed_macs": round(executed),
            "asked_macs": round(asked),
            "gmacs": executed / found["p50_ms"] / 1e6,
            "max_error": result.max_error,
            "close_calls": result.close_calls,
        }
        label = variant.role if made["density"] is None else f"{variant.role} {made['density']:g}"
        reasons = noise([made | {"program": f"{label}, {threads} thread(s)"}], busy)
        rows.append(made | {"noisy": bool(reasons), "noise": "; ".join(reasons) or None})
    return sorted(rows, key=lambda made: (ROLES.index(made["role"]), made["density"] or 0))


def unmeasured(of, entry, engine, threads, reason):
    """The rows of a program that was not timed."""
    variant = entry.variant
    return [row(of, variant, engine, threads, position, reason) for position in range(len(variant.timed))]


def row(of, variant, engine, threads, position=0, reason=None):
    """A row of which nothing is measured yet; reason: why nothing will be."""
    return {
        "runtime": engine,
        "model": of.model,
        "input": of.size,
        "density": variant.densities[position],
        "role": variant.role,
        "threads": threads,
        "data": of.data,
        "program": None,
        "rounds": 0,
        **dict.fromkeys(("p50_ms", "p90_ms", "ratio_to_dense", "ratio_low", "ratio_high", "ratio_to_best_dense")),
        **dict.fromkeys(("executed_macs", "asked_macs")),
        "dense_macs": of.dense_macs,
        **dict.fromkeys(("gmacs", "max_error", "close_calls")),
        "noisy": False,
        "noise": None,
        "reason": reason,
    }


def add_best_dense(rows):
    """Set ratio_to_best_dense in the rows of one subject: to the fastest dense program of all runtimes, by p50."""
    best = {}
    for made in rows:
        if made["role"] == "dense" and made["p50_ms"] is not None:
            best[made["threads"]] = min(made["p50_ms"], best.get(made["threads"], np.inf))
    for made in rows:
        if made["p50_ms"] is not None and made["threads"] in best:
            made["ratio_to_best_dense"] = made["p50_ms"] / best[made["threads"]]


# What is shown.


def show(out, of, engine, rows):
    """Print the table of a subject on a runtime."""
    heads = ("role", "density", "threads", "p50 ms", "p90 ms", "ratio to dense (95 %)", "to the best dense")
    made = table(*heads, "MACs executed", "GMAC/s", "error", title=f"{of.name}, {engine}; {of.data} images", right=9)
    notes, noisy = {}, {}
    for i, found in enumerate(rows):
        if i and found["threads"] != rows[i - 1]["threads"]:
            made.add_section()
        begin = (found["role"], "" if found["density"] is None else f"{found['density']:g}", str(found["threads"]))
        if found["reason"]:
            notes[f"no {found['role']}: {found['reason']}"] = None
            made.add_row(*begin, "-")
            continue
        noisy |= dict.fromkeys((found["noise"] or "").split("; "))
        ratio = [found[key] for key in ("ratio_to_dense", "ratio_low", "ratio_high", "ratio_to_best_dense")]
        made.add_row(
            *begin,
            f"{found['p50_ms']:.3f}",
            f"{found['p90_ms']:.3f}",
            "" if ratio[0] is None else "{:.3f} ({:.3f} to {:.3f})".format(*ratio[:3]),
            "" if ratio[3] is None else f"{ratio[3]:.3f}",
            share(found["executed_macs"], found["dense_macs"]),
            f"{found['gmacs']:.1f}",
            f"{found['max_error']:.0e}",
        )
    out.print(made)
    for note in [*notes, *(f"too noisy to believe: {reason}" for reason in noisy if reason)]:
        out.print(note, soft_wrap=True)


def plot(rows, path):
    """Draw the latency of `skip` against density, a panel a model, a line a runtime; its dense program is dashed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    threads = min(found["threads"] for found in rows)
    rows = [found for found in rows if found["threads"] == threads and found["p50_ms"] is not None]
    panels = list(dict.fromkeys((found["model"], found["input"]) for found in rows if found["role"] == "skip"))
    if not panels:
        click.echo("nothing to plot: no skip program was measured", err=True)
        return
    figure, axes = pyplot.subplots(1, len(panels), figsize=(4 * len(panels), 3.5), squeeze=False, layout="constrained")
    for axis, panel in zip(axes[0], panels, strict=True):
        for number, runtime in enumerate(dict.fromkeys(found["runtime"] for found in rows)):
            mine = [f for f in rows if (f["model"], f["input"], f["runtime"]) == (*panel, runtime)]
            points = sorted((f["density"], f["p50_ms"]) for f in mine if f["role"] == "skip")
            if points:
                axis.plot(*zip(*points, strict=True), "o-", color=f"C{number}", label=f"{runtime} skip")
            for found in mine:
                if found["role"] == "dense":
                    axis.axhline(found["p50_ms"], ls="--", color=f"C{number}", label=f"{runtime} dense")
        axis.set(title="{} at {}".format(*panel), xlabel="density", ylabel="p50 ms", ylim=(0, None))
        axis.legend(fontsize="small")
    figure.suptitle(f"batch 1, {threads} thread(s), {rows[0]['cpu']}", fontsize="small")
    figure.savefig(path, dpi=150)


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
@click.option("--json", "json_path", type=click.Path(), help="Write the rows here.")
@click.option("--plot", "plot_path", type=click.Path(), help="Draw latency against density here.")
def main(models, runtimes, roles, densities, threads, data, seconds, fresh, quick, json_path, plot_path):
    """Measure latency on this machine."""
    models = models or (("resnet20",) if quick else MODELS)
    threads = threads or ((1,) if quick else (1, 2))
    densities = densities or ((0.25, 0.5) if quick else (0.25, 0.5, 0.75))
    seconds = seconds or (3.0 if quick else 60.0)
    out, rows = console(), []
    facts = machine()
    reason = ensure() if "skip" in roles else None
    if reason:
        out.print(f"no skip programs: {reason}", soft_wrap=True)
        roles = [role for role in roles if role != "skip"]
    library = next(filter(None, map(find, KINDS)), None)
    if library:  # the processes that time look there first: also when the sources change meanwhile
        os.environ["FEDGATE_KERNELS"] = str(library.parent)
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
            for engine in runtimes:
                usable = [v for v in made if v.role != "skip" or (v.kernel_layers and engine in SKIP_ENGINES)]
                if len(usable) < len(made):
                    out.print(f"no skip program of {of.name} for {engine} in this version")
                lowered = lower_all(of, usable, engine, fresh, status)
                for count in threads:
                    found = measured(of, lowered, engine, count, seconds, status)
                    mine += [one | common for one in found]
            add_best_dense(mine)
            rows += mine
            for engine in runtimes:
                show(out, of, engine, [found for found in mine if found["runtime"] == engine])
            if json_path:  # after each model: what was measured stays if the next one fails
                Path(json_path).write_text(json.dumps(rows, indent=1) + "\n")
    if plot_path:
        plot(rows, plot_path)
    wrong = [found for found in rows if found["reason"] and found["role"] != "dense-int8"]
    if wrong:
        raise click.ClickException(f"{len(wrong)} rows have a reason in the place of a measurement")


if __name__ == "__main__":
    main()
