"""From which density on a convolution is better left to dense XNNPACK: the kernel against LiteRT, layer by layer.

For each shape that the networks have: the kernel's gated convolution, gate and all, with closed channels on its
output alone (as the first convolution of a residual block has them) and on both sides, at several densities, in turn
with a LiteRT program of the same convolution, ungated, and a ReLU; one thread, batch 1, weights in the caches. The
LiteRT program's image is NHWC and the kernel's planar, as each likes it. break_even is the density, interpolated,
at which both take the same time with channels closed on both sides; above 1 the kernel is faster at every density.
`export/kernel_table.py` holds what this printed.

    python benchmarks/layers.py --json layers.json
"""

import tempfile
import time
from pathlib import Path

import click
import numpy as np
import torch
from common import machine
from result_file import json_option, write_result
from torch import nn

from fedgate.device_runtime.bench.stats import paired_ratio
from fedgate.device_runtime.engines import import_runtime
from fedgate.device_runtime.formats.macs import open_count
from fedgate.device_runtime.kernels.build import ensure, find
from fedgate.device_runtime.kernels.library import KernelLibrary
from fedgate.export.lowering import quiet

# (C_in, C_out, side of the input, kernel, stride)
SHAPES = (
    # ResNet-32
    (3, 16, 32, 3, 1),
    (16, 16, 32, 3, 1),
    (16, 32, 32, 3, 2),
    (32, 32, 16, 3, 1),
    (32, 64, 16, 3, 2),
    (64, 64, 8, 3, 1),
    # VGG-16
    (3, 64, 32, 3, 1),
    (64, 64, 32, 3, 1),
    (128, 128, 16, 3, 1),
    (256, 256, 8, 3, 1),
    (256, 512, 4, 3, 1),
    (512, 512, 4, 3, 1),
    (512, 512, 2, 3, 1),
    (512, 512, 1, 3, 1),
    # ResNet-18, images of 224x224
    (64, 64, 56, 3, 1),
    (64, 128, 56, 3, 2),
    (128, 128, 28, 3, 1),
    (256, 256, 14, 3, 1),
    (512, 512, 7, 3, 1),
    (64, 128, 56, 1, 2),
    (128, 256, 28, 1, 2),
    (256, 512, 14, 1, 2),
    # bottlenecks
    (64, 64, 32, 1, 1),
    (256, 256, 8, 1, 1),
)
DENSITIES = (0.25, 0.5, 0.75, 1.0)
BURST = 5


def dense_call(c_in, c_out, side, kernel, stride, folder):
    """The invocation of a LiteRT program of the convolution and a ReLU, NHWC on both sides."""
    import litert_torch

    network = nn.Sequential(nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2), nn.ReLU()).eval()
    network = litert_torch.to_channel_last_io(network, args=[0], outputs=[0])
    path = str(Path(folder, "layer.tflite"))
    with quiet():
        litert_torch.convert(network, (torch.zeros(1, side, side, c_in),)).export(path)
        interpreter = import_runtime("litert").import_runtime().Interpreter(model_path=path, num_threads=1)
        interpreter.allocate_tensors()
    return interpreter.invoke


def kernel_calls(context, c_in, c_out, side, kernel, stride, rng):
    """The kernel's calls to be timed: {name: function}."""
    x = np.maximum(rng.standard_normal((1, c_in, side, side)), 0).astype(np.float32)
    weight = rng.standard_normal((c_out, c_in, kernel, kernel)).astype(np.float32)
    ones, zeros = np.ones((1, c_out), np.float32), np.zeros((1, c_out), np.float32)
    calls = {}
    for density in DENSITIES:
        gate = {
            "gate_weight": rng.standard_normal((c_in, c_out)).astype(np.float32) / c_in,
            "gate_bias": np.full(c_out, 3, np.float32),
            "kept": np.array([open_count(density, c_out)], np.int32),
        }
        in_open = np.zeros((1, c_in), np.uint8)
        in_open[0, rng.permutation(c_in)[: open_count(density, c_in)]] = 1
        for name, mask in (("output", None), ("both", in_open)):
            run, _, _ = context.prepare(x, weight, ones, zeros, stride=stride, relu=True, in_open=mask, **gate)
            calls[f"{name} {density:g}"] = run
    calls["ungated"] = context.prepare(x, weight, ones, zeros, stride=stride, relu=True)[0]
    return calls


def measure_shape(context, shape, rounds):
    """Median ratios to LiteRT's dense program by call, and that program's time in microseconds."""
    calls = kernel_calls(context, *shape, np.random.default_rng(0))
    with tempfile.TemporaryDirectory() as folder:
        calls["dense"] = dense_call(*shape, folder)
        times = {name: np.empty(rounds) for name in calls}
        for turn in range(rounds):
            for name, call in calls.items():
                call()
                started = time.perf_counter_ns()
                for _ in range(BURST):
                    call()
                times[name][turn] = (time.perf_counter_ns() - started) / BURST
    ratios = {name: paired_ratio(value, times["dense"])[0] for name, value in times.items() if name != "dense"}
    return ratios, float(np.median(times["dense"])) / 1e3


def break_even(ratios):
    """The density at which the kernel takes as long as the dense program; 1.01 where it never does."""
    points = [ratios[f"both {density:g}"] for density in DENSITIES]
    return 1.01 if max(points) < 1 else float(np.interp(1.0, points, DENSITIES))


@click.command()
@click.option("--rounds", default=60, show_default=True, help="Turns of each shape.")
@json_option
@click.option("--quick", is_flag=True, help="A few shapes and turns.")
def main(rounds, json_path, quick):
    reason = ensure()
    if reason:
        raise click.ClickException(reason)
    library = KernelLibrary(find("kernels"))
    context = library.context()
    click.echo(", ".join(f"{key} {value}" for key, value in machine().items()) + f", kernel {library.isas[0]}")
    heads = ["output 0.5", "both 0.5", "both 0.75", "both 1", "ungated"]
    click.echo(f"{'shape':26} {'dense us':>9} " + " ".join(f"{head:>10}" for head in heads) + "  break-even")
    rows = []
    for shape in SHAPES[1:4] if quick else SHAPES:
        ratios, dense_us = measure_shape(context, shape, 10 if quick else rounds)
        c_in, c_out, side, kernel, stride = shape
        name = f"{c_in} -> {c_out}, {side}x{side}, {kernel}x{kernel} /{stride}"
        row = {"c_in": c_in, "c_out": c_out, "side": side, "kernel": kernel, "stride": stride, "dense_us": dense_us}
        rows.append(row | {"isa": library.isas[0], "break_even": break_even(ratios)} | ratios)
        cells = " ".join(f"{ratios[head]:10.2f}" for head in heads)
        click.echo(f"{name:26} {dense_us:9.1f} {cells}  {break_even(ratios):.2f}")
    write_result(json_path, rows)


if __name__ == "__main__":
    main()
