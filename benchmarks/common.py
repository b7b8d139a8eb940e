"""What the benchmark scripts share: programs of eval networks, timed in turn against the dense one."""

import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from fedgate.device_runtime.bench import interleave
from fedgate.device_runtime.bundle import Bundle
from fedgate.device_runtime.engines import load_program
from fedgate.device_runtime.machine import machine_info
from fedgate.device_runtime.manifest import Port, Program
from fedgate.device_runtime.stats import paired_ratio
from fedgate.export.lowering import LOWERINGS, lower


def machine():
    """The facts of this machine that a table should carry."""
    return {key: value for key, value in machine_info().items() if value is not None}


def load(folder, name, eval_network, engine, network):
    """Lower an image -> logits network and load it as a program that belongs to no bundle."""
    suffix, layout, *_ = LOWERINGS[engine]
    Path(folder, f"{name}.{suffix}").write_bytes(lower(eval_network, engine, network.shape, has_level=False))
    c, h, w = network.shape
    image = Port("image", (1, c, h, w) if layout == "NCHW" else (1, h, w, c), "float32", layout)
    logits = Port("logits", (1, network.layers[-1].out_channels), "float32", None)
    program = Program(f"{name}.{suffix}", engine, "dense", None, (image,), (logits,), False, "", 0)
    return load_program(Bundle(Path(folder), SimpleNamespace(shape=(1, c, h, w), densities=(1.0,))), program)


def measure(networks, engine, network, seconds, inputs=None):
    """Time image -> logits networks as programs of an engine, interleaved, one thread, batch 1.

    networks: name -> eval network; one is "dense". network: the gated network they come from. Returns for each name
    p50_ms, p90_ms, and ratio_to_dense with its 95 % interval.
    """
    if inputs is None:
        inputs = np.random.default_rng(0).normal(size=(8, *network.shape)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        programs = [load(folder, f"p{i}", body, engine, network) for i, body in enumerate(networks.values())]
        for program in programs:  # warm up
            for image in inputs:
                program.run(image[None])
        times = interleave(programs, inputs, None, None, seconds)
    by_round = np.median(times, axis=2)
    dense = list(networks).index("dense")
    found = {}
    for i, name in enumerate(networks):
        ratio, low, high = paired_ratio(by_round[i], by_round[dense])
        found[name] = {
            "p50_ms": float(np.percentile(times[i], 50)),
            "p90_ms": float(np.percentile(times[i], 90)),
            "ratio_to_dense": ratio,
            "ratio_low": low,
            "ratio_high": high,
        }
    return found
