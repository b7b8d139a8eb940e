"""What an upload weighs: lengths of the blobs, by codec and by what is sent, against the dense network's fp32 upload.

`full` sends every channel. `salient` sends those that local training opened, here as few as can be: the k that one
input opens, the same for all (trained masks often nearly are, and `fedgate train` logs what they are). Sizes depend on
the channels alone, so the weights are untrained. ms: to encode and to decode, one thread.

    python benchmarks/update_bytes.py --json update_bytes.json
"""

import dataclasses
import time

import click
import numpy as np
import torch
from result_file import json_option, write_result

from fedgate.device_runtime.formats.codec import CODECS
from fedgate.device_runtime.formats.tensors import tensors_hash
from fedgate.device_runtime.formats.update import Update, decode_update, encode_update
from fedgate.train.network.build import build_network, network_tensors
from fedgate.train.network.channels import kept_share, update_spec

SAMPLES = 5000  # of a client; what a count of openings takes depends on it


def upload(network, channels, codec):
    """A client's upload of these channels: (blob, its spec, the base)."""
    base = network_tensors(network)
    spec = dataclasses.replace(update_spec(network, "benchmark"), base_hash=tensors_hash(base))
    rng = np.random.default_rng(0)
    moved = {name: value + 1e-3 * rng.normal(size=value.shape).astype(np.float32) for name, value in base.items()}
    moved = {name: np.abs(value) if name.endswith("running_var") else value for name, value in moved.items()}
    kept = spec.all_channels() | channels
    opened, strength = {}, {}
    for layer, c in spec.channels.items():
        opened[layer] = np.zeros((1, c), np.uint32)
        opened[layer][0, kept[layer]] = SAMPLES
        strength[layer] = opened[layer].astype(np.float32)
    samples = (SAMPLES if spec.channels else 0,)
    values = spec.take(moved, kept)
    update = Update("benchmark", 0, spec.base_hash, 0, SAMPLES, 79, samples, kept, values, {}, opened, strength, codec)
    return encode_update(update, spec, base, 0), update, spec, base


def milliseconds(function, *arguments):
    """The fastest of five calls."""
    times = []
    for _ in range(5):
        started = time.perf_counter()
        function(*arguments)
        times.append(1e3 * (time.perf_counter() - started))
    return min(times)


@click.command()
@click.option("--model", "models", multiple=True, default=("resnet32", "vgg16"), show_default=True)
@click.option("--density", "densities", multiple=True, type=float, default=(0.25, 0.5, 0.75), show_default=True)
@click.option("--quick", is_flag=True, help="ResNet-32 at density 0.5.")
@json_option
def main(models, densities, quick, json_path):
    """Measure the length of an upload for every codec."""
    if quick:
        models, densities = ("resnet32",), (0.5,)
    torch.set_num_threads(1)
    shape, rows = (3, 32, 32), []
    for model in models:
        dense = len(upload(build_network(model, "none", (1.0,), 10, shape), {}, "fp32")[0])
        for density in densities:
            network = build_network(model, "paper", (density,), 10, shape)
            few = {name: np.arange(gate.k[0], dtype=np.uint16) for name, gate in network.gates.items()}
            for kind, channels in (("full", {}), ("salient", few)):
                for codec in CODECS:
                    blob, update, spec, base = upload(network, channels, codec)
                    row = {
                        "model": model,
                        "density": density,
                        "upload": kind,
                        "codec": codec,
                        "kept_share": kept_share(update, spec),
                        "bytes": len(blob),
                        "ratio_to_dense_fp32": len(blob) / dense,
                        "encode_ms": milliseconds(encode_update, update, spec, base, 0),
                        "decode_ms": milliseconds(decode_update, blob, spec, base),
                    }
                    rows.append(row)
                    print(
                        f"{model:10}{density:5g}  {kind:9}{codec:6}kept {row['kept_share']:.3f}{len(blob):12,} bytes  "
                        f"{row['ratio_to_dense_fp32']:.3f}",
                        flush=True,
                    )
    write_result(json_path, rows)


if __name__ == "__main__":
    main()
