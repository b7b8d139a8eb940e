"""What programs cost on the CPUs of Raspberry Pis: instructions executed by an emulated Cortex-A72 or A76.

LiteRT runs the programs with one thread under qemu-user, as `fedgate bench --target emulated:CPU` does for a bundle
(device_runtime/targets/emulated). These are counts of instructions, not times: caches, memory and instructions that
issue together are not modelled, so nothing here is a Raspberry Pi's latency.

    dense   the network without gates
    masked  gates on stock operators, nothing skipped
    static  fixed masks: closed channels removed, the scale of each input kept
    slim    a plain network with the widths of `static` and no gates: the first convolution of a residual block has
            the k channels that `static` keeps, the second one all those of the stream, where `static` computes k and
            scatters them; in a plain chain all have k
    skip    channels skipped for each input by the kernel

Networks are untrained and calibrated (calibrate.py). Every program's outputs are compared with eager PyTorch, to
1e-4 of the largest, before its row is printed. executed_macs counts convolutions, linear layers and gates as
`fedgate.device_runtime.formats.macs` does, for `skip` as its kernel does; the 1x1 scatters of `static` are not among
them, so there, and where XNNPACK pads channels, fma_times_4_over_macs is above 1. instructions and vector_fma (of 4
lanes) are means over the images.

    python benchmarks/arm.py --data PATH/TO/cifar10 --json arm.json
"""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from calibrate import benchmark_images, calibrated, most_opened, slim_network
from result_file import json_option, write_result

from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.formats import macs
from fedgate.device_runtime.kernels.build import build
from fedgate.device_runtime.targets.emulated.cpus import CPUS
from fedgate.device_runtime.targets.emulated.emulator import COUNTS, Emulator
from fedgate.device_runtime.targets.emulated.root import open_emulator
from fedgate.export.eval_networks import dense_network, masked_network, static_network
from fedgate.export.lowering import lower
from fedgate.export.reference import EagerReference, fixed_masks
from fedgate.export.skip import kernel_layers, skip_network
from fedgate.train.network.build import GatedNetwork, build_network

REPOSITORY = Path(__file__).resolve().parents[1]
ROLES = ("dense", "static", "slim", "masked", "skip")
SHAPE = (3, 32, 32)
HEADS = {"instructions": 14, "vector FMA": 12, "/ dense": 9, "MACs": 12, "4 FMA / MAC": 13}  # and widths
TOLERANCE = 1e-4


# What is measured: a program for each role, with what eager PyTorch makes of the same images.


@dataclass
class Prepared:
    """A program, its reference and its work.

    network: the gated or plain network that eager PyTorch runs. masks: fixed ones, bool (1, sum of C_out), or None.
    macs: executed MACs of an inference, without those that the delegate counts. takes_level: it returns masks beside
    the logits. delegate: a library for the program, built for aarch64.
    """

    program: bytes
    network: GatedNetwork
    macs: int
    masks: np.ndarray | None = None
    takes_level: bool = False
    delegate: Path | None = None


def prepare(role, model, density, images):
    """The program of a role, a `Prepared`."""
    torch.manual_seed(0)
    if role == "dense":
        return plain(calibrated(build_network(model, "none", (1.0,), 10, SHAPE), images))
    network = calibrated(build_network(model, "paper", (density,), 10, SHAPE), images)
    if role == "slim":
        return plain(calibrated(slim_network(network), images))
    if role == "static":
        kept = most_opened(network, images)
        program = lower(static_network(network, 0, kept), "litert", SHAPE, has_level=False)
        masks = fixed_masks(network.layers, kept)
        return Prepared(program, network, int(macs.total(macs.executed(network.layers, masks))[0]), masks)
    if role == "masked":
        program = lower(masked_network(network), "litert", SHAPE, has_level=True)
        return Prepared(program, network, macs.total(macs.nominal(network.layers, 1.0)), takes_level=True)
    return skip_program(network)


def skip_program(network):
    """The `skip` program of a gated network and the delegate built for aarch64, a `Prepared`.

    Its layers outside the kernel are added to what the delegate counts: the linear one.
    """
    skip = skip_network(network)
    layers = kernel_layers(skip)
    left = sum(count for name, count in macs.nominal(network.layers, 1.0).items() if name not in layers)
    program = lower(skip, "litert", SHAPE, has_level=True)
    delegate = build("aarch64-linux-gnu", folder=REPOSITORY / "build" / "arm")["litert"]
    return Prepared(program, network, left, takes_level=True, delegate=delegate)


def plain(network):
    """The program of a network without gates."""
    program = lower(dense_network(network), "litert", SHAPE, has_level=False)
    return Prepared(program, network, macs.total(macs.dense(network.layers)))


def emulate(emulator: Emulator, prepared, images):
    """Run a program on an emulated CPU, one inference an image.

    images: float32 (N, C, H, W). Returns the counts of each inference, int64 (N, 4) in the order of `COUNTS`, and its
    outputs by name, with the same leading dimension.
    """
    inputs = {"args_0": np.ascontiguousarray(images.transpose(0, 2, 3, 1))[:, None]}  # (N, 1, H, W, C)
    if prepared.takes_level:
        inputs["args_1"] = np.zeros((len(images), 1), np.int32)
    with tempfile.TemporaryDirectory() as name:
        program = Path(name, "program.tflite")
        program.write_bytes(prepared.program)
        return emulator.count(program, inputs, prepared.delegate)


def compare(role, prepared, outputs, images):
    """Refuse a program that does not compute what eager PyTorch does: logits, and masks where it returns them."""
    reference = EagerReference(prepared.network)
    masks = prepared.masks
    if prepared.takes_level:
        masks = outputs["output_1"][:, 0]
        differ = np.mean((masks != 0) != reference.run(images, 0)[1])
        if differ > 1e-3:  # fewer are close calls, and the logits are compared under the program's own masks
            raise click.ClickException(f"{role}: {differ:.2%} of its masks differ from eager PyTorch's")
    expected = reference.run(images, 0, masks)[0]
    error = np.abs(outputs["output_0"][:, 0] - expected).max() / np.abs(expected).max()
    if not error <= TOLERANCE:
        raise click.ClickException(f"{role}: its logits differ from eager PyTorch's by {error:.1e} of the largest")


@click.command()
@click.option("--cpu", "cpus", multiple=True, type=click.Choice(list(CPUS)), default=list(CPUS), show_default=True)
@click.option("--model", "models", multiple=True, default=("resnet32",), show_default=True)
@click.option("--density", default=0.5, show_default=True)
@click.option("--role", "roles", multiple=True, type=click.Choice(ROLES), default=ROLES, show_default=True)
@click.option("--data", help="As in `fedgate train`; smooth noise without it, called synthetic.")
@click.option("--images", "count", default=8, show_default=True, help="Inferences to count for each program.")
@click.option("--quick", is_flag=True, help="The first CPU, no `masked`, two images.")
@json_option
def main(cpus, models, density, roles, data, count, quick, json_path):
    """Count the instructions of an inference on emulated ARM CPUs."""
    if quick:
        cpus, roles, count = cpus[:1], [role for role in roles if role != "masked"], 2
    torch.set_num_threads(1)
    # the runtime's version decides what is executed: the one that the project is tested with
    os.environ.setdefault("PIP_CONSTRAINT", str(REPOSITORY / "constraints.txt"))
    try:
        emulators = [open_emulator(cpu, print) for cpu in cpus]
    except FedgateError as error:
        raise click.ClickException(str(error)) from error
    images, label = benchmark_images(data, SHAPE, 256)
    measured = images[:count].numpy()
    print(f"images: {label}; executed instructions of an inference, batch 1, one thread, LiteRT; not a latency")
    heads = "".join(f"{head:>{width}}" for head, width in HEADS.items())
    print(f"{'cpu':12}{'model':10}{'role':8}{heads}")
    rows = []
    for model in models:
        for role in sorted(roles, key=ROLES.index):  # dense first: the others are told as ratios to it
            prepared = prepare(role, model, density, images)
            for emulator in emulators:
                counts, outputs = emulate(emulator, prepared, measured)
                compare(role, prepared, outputs, measured)
                row = make_row(emulator.cpu, model, density, role, label, prepared, counts, outputs, rows)
                rows.append(row)
                show(row)
    write_result(json_path, rows)


def make_row(cpu, model, density, role, label, prepared, counts, outputs, rows):
    """The row of a program on a CPU; rows: those before it."""
    means = {name: round(float(mean)) for name, mean in zip(COUNTS, counts.mean(0), strict=True)}
    dense = next((row for row in rows if (row["cpu"], row["model"], row["role"]) == (cpu, model, "dense")), None)
    executed = prepared.macs
    if "executed_macs" in outputs:
        executed += round(float(outputs["executed_macs"].mean()))
    instructions = means["instructions"]
    baseline = instructions if role == "dense" else dense and dense["instructions"]
    return {
        "cpu": cpu,
        "runtime": "litert",
        "model": model,
        "density": density,
        "role": role,
        "data": label,
        **means,
        "ratio_to_dense": instructions / baseline if baseline else None,
        "executed_macs": executed,
        "fma_times_4_over_macs": 4 * means["vector_fma"] / executed,
    }


def show(row):
    ratio = "" if row["ratio_to_dense"] is None else f"{row['ratio_to_dense']:.3f}"
    print(
        f"{row['cpu']:12}{row['model']:10}{row['role']:8}{row['instructions']:14,}{row['vector_fma']:12,}{ratio:>9}"
        f"{row['executed_macs']:12,}{row['fma_times_4_over_macs']:13.3f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
