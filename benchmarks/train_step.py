"""What a step of a device's training program costs against the same step in eager PyTorch.

Both train the tail of a gated network on features that are at hand: forward, backward, gradient clipping, SGD with
momentum and weight decay. PyTorch has it easier: it lets closed channels move, as the adaptive gradient would not.
Interleaved in one process, one thread; ratios are medians of pairs.

    python benchmarks/train_step.py --json train_step.json
"""

import copy
import functools
import time
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
import torch
import torch.nn.functional as F
from calibrate import calibrated, synthetic_images
from result_file import json_option, write_result

from fedgate.device_runtime.engines import load_program
from fedgate.device_runtime.formats.bundle import Bundle, listing
from fedgate.device_runtime.formats.manifest import parse_manifest, render_manifest
from fedgate.device_runtime.formats.tail import Tail
from fedgate.export.check_training import OPTIONS, batch_of, start
from fedgate.export.cut import cut_network, tail_nodes, trunk_network
from fedgate.export.tail_plans import train_plan
from fedgate.export.trainable import TRAINING_RUNTIMES, Trainable
from fedgate.train.data.augment import normalise
from fedgate.train.network.build import build_network
from fedgate.train.network.tails import freeze, trunk

SHAPE, STATISTICS = (3, 32, 32), ((0.5,) * 3, (0.25,) * 3)
NOTHING = {"sha256": "0" * 64, "bytes": 0}


def make_part(model, density, trainable, batch):
    """The `Trainable` of an untrained, calibrated network."""
    network = build_network(model, "paper", (density,), 10, SHAPE)
    network = calibrated(network, torch.as_tensor(synthetic_images(SHAPE, 128)))
    freeze(network, trunk(network.layers, trainable))
    cut = cut_network(network, trainable)
    return Trainable(network, trunk_network(network, cut), cut, Tail({}, None), batch, True)


def load_step(part, runtime, folder):
    """The loaded train program."""
    network = part.network
    program, files = train_plan(part).make(runtime)
    (data,) = files.values()
    program |= listing(data)
    (folder / program["file"]).write_bytes(data)
    fields = {
        "model": "benchmark", "gate": network.gate, "width": 1.0, "dataset": "none", "labels": list("0123456789"),
        "input": {"shape": [1, *SHAPE], "layout": "NCHW", "mean": [0.5] * 3, "std": [0.25] * 3},
        "densities": list(network.densities), "default_level": 0, "training": {},
        "layers": [layer.to_json() for layer in network.layers],
        "tail": asdict(part.info), "programs": [program],
        "files": dict.fromkeys(("salience.safetensors", "reference.safetensors", "tail.safetensors"), NOTHING),
    }  # fmt: skip
    manifest = parse_manifest(render_manifest(fields))
    return load_program(Bundle(folder, manifest), manifest.programs[0])


def eager_step(part, values):
    """A function that does one step of the tail in eager PyTorch."""
    network = copy.deepcopy(part.network)
    place, _ = tail_nodes(network, part.cut)
    body = network.body
    image = next(node for node in body.graph.nodes if node.op == "placeholder")
    place.replace_all_uses_with(image)
    body.graph.eliminate_dead_code()
    body.recompile()
    parameters = [p for p in body.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, **{k: OPTIONS[k] for k in ("lr", "momentum", "weight_decay")})
    features, labels = torch.from_numpy(values["features"]), torch.from_numpy(values["labels"]).long()
    if features.dim() == 4:
        features = features.contiguous(memory_format=torch.channels_last)

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(body(features), labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, OPTIONS["clip_norm"])
        optimizer.step()

    return step


def pairs(functions, seconds):
    """Milliseconds of each function, in turn, until `seconds` are over: float64 (n, functions)."""
    rows, end = [], time.perf_counter() + seconds
    for function in functions:
        function()
    while time.perf_counter() < end or len(rows) < 5:
        row = []
        for function in functions:
            start = time.perf_counter()
            function()
            row.append((time.perf_counter() - start) * 1e3)
        rows.append(row)
    return np.array(rows)


@click.command()
@click.option("--model", "models", multiple=True, default=("resnet20", "resnet32"), show_default=True)
@click.option("--trainable", "parts", multiple=True, default=("head", "last-stage"), show_default=True)
@click.option("--runtime", "runtimes", multiple=True, default=TRAINING_RUNTIMES, show_default=True)
@click.option("--density", default=0.5, show_default=True)
@click.option("--batch-size", default=16, show_default=True)
@click.option("--seconds", default=10.0, show_default=True, help="Measured for each program.")
@click.option("--quick", is_flag=True, help="ResNet-20's last stage on LiteRT, three seconds.")
@json_option
def main(models, parts, runtimes, density, batch_size, seconds, quick, json_path):
    """Time per step of training programs against eager PyTorch."""
    if quick:
        models, parts, runtimes, seconds = ("resnet20",), ("last-stage",), ("litert",), 3.0
    torch.set_num_threads(1)
    rows = []
    for model in models:
        for trainable in parts:
            part = make_part(model, density, trainable, batch_size)
            draw = torch.Generator().manual_seed(1)
            images = torch.randint(256, (batch_size, *SHAPE), generator=draw, dtype=torch.uint8)
            labels = torch.arange(batch_size) % 10
            values = start(part) | batch_of(part, normalise(images, *STATISTICS), labels, 0)
            for runtime in runtimes:
                with TemporaryDirectory() as folder:
                    loaded = load_step(part, runtime, Path(folder))
                    times = pairs([functools.partial(loaded.call, values), eager_step(part, values)], seconds)
                ratio = float(np.median(times[:, 0] / times[:, 1]))
                ours, eager = (float(value) for value in np.median(times, 0))
                row = {"model": model, "trainable": trainable, "runtime": runtime, "batch_size": batch_size}
                rows.append(row | {"density": density, "p50_ms": ours, "eager_ms": eager, "ratio_to_eager": ratio})
                print(f"{model:10}{trainable:12}{runtime:12}{ours:9.2f} ms{eager:9.2f} ms {ratio:7.2f}", flush=True)
    write_result(json_path, rows)


if __name__ == "__main__":
    main()
