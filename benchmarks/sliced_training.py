"""What a step of local training gains where the channels that a batch leaves closed are not computed.

Masks are such as training makes them: of a run (`--run`, on the images of its largest client), or of networks that are
trained for a while first. Then the same batches are trained with every channel computed and masked, and sliced, in
turn, from the same state; one thread. `open_share` is the mean share of a gated layer's channels that some sample of a
batch opens, `work_share` what these shares leave of the convolutions' multiply-adds. ratio is the median over the turns
of the sliced step's time to the masked one's.

    python benchmarks/sliced_training.py --data PATH/TO/cifar10 --json sliced.json
"""

import dataclasses
import time

import click
import numpy as np
import torch
from result_file import json_option, write_result
from torch.nn import functional as F

from fedgate.device_runtime.formats import macs
from fedgate.train.data.augment import normalise
from fedgate.train.data.load import load_data
from fedgate.train.ingredients import make_network, prepare
from fedgate.train.local.client import LocalPlan, train_locally
from fedgate.train.network.build import build_network, load_tensors, network_tensors
from fedgate.train.server.run_directory import RunDirectory

PLAN = LocalPlan(
    densities=(0.5,),
    epochs=1,
    batch_size=32,
    lr=0.02,
    seed=0,
)


def shares(network, images, plan):
    """(open_share, work_share) of batches of normalised images, in training mode; the network's statistics move."""
    opened, work = [], []
    convs = [layer for layer in network.layers if layer.kind == "conv"]
    with torch.no_grad():
        for x in images.split(plan.batch_size):
            network(x.contiguous(memory_format=torch.channels_last))
            share = {name: gate.open.any(0).double().mean().item() for name, gate in network.gates.items()}
            done = [macs.dense_macs(each) * share.get(each.name, 1) * share.get(each.input_gate, 1) for each in convs]
            opened.append(np.mean(list(share.values())))
            work.append(sum(done) / sum(map(macs.dense_macs, convs)))
    return float(np.mean(opened)), float(np.mean(work))


def measure(network, data, images, labels, steps, turns):
    """The row of a trained network. images: uint8 (n, C, H, W); steps: batches of each timing."""
    plan = dataclasses.replace(PLAN, densities=network.densities)
    statistics, draw = (data.mean, data.std), torch.Generator().manual_seed(1)
    chosen = torch.randint(len(labels), (steps * plan.batch_size,), generator=draw)
    start, batch = network_tensors(network), (images[chosen], labels[chosen])
    opened, work = shares(network, normalise(batch[0], *statistics), plan)
    times = {True: [], False: []}
    for turn in range(turns + 1):  # the first warms up
        for sliced in (False, True):
            load_tensors(network, start)
            started = time.process_time()
            train_locally(network, *batch, statistics, dataclasses.replace(plan, sliced=sliced))
            if turn:
                times[sliced].append((time.process_time() - started) / steps)
    ratios = np.array(times[True]) / np.array(times[False])
    return {
        "input": network.shape[1],
        "density": network.densities[-1],
        "batch_size": plan.batch_size,
        "open_share": opened,
        "work_share": work,
        "masked_ms": 1e3 * float(np.median(times[False])),
        "sliced_ms": 1e3 * float(np.median(times[True])),
        "ratio": float(np.median(ratios)),
        "ratio_low": float(ratios.min()),
        "ratio_high": float(ratios.max()),
        "turns": turns,
    }


def trained_a_while(model, density, data, images, labels, warm_up):
    """A network after `warm_up` steps of training."""
    plan = dataclasses.replace(PLAN, densities=(density,), sliced=False)
    torch.manual_seed(0)
    network = build_network(model, "paper", plan.densities, len(data.labels), tuple(images.shape[1:]))
    network = network.to(memory_format=torch.channels_last)
    chosen = torch.randint(len(labels), (warm_up * plan.batch_size,), generator=torch.Generator().manual_seed(0))
    train_locally(network, images[chosen], labels[chosen], (data.mean, data.std), plan)
    return network


def of_run(path):
    """(model, network, data, images, labels) of a run and its largest client."""
    directory = RunDirectory.open(path)
    data, parts = prepare(directory.info.config)
    network = make_network(directory.info).to(memory_format=torch.channels_last)
    load_tensors(network, directory.model_tensors())
    part = torch.from_numpy(max(parts, key=len))
    return directory.info.config.model, network, data, data.train_images[part], data.train_labels[part]


def collapse(network):
    """Let every gate open the same k channels for all inputs."""
    for gate in network.gates.values():
        gate.forced = torch.arange(gate.out_channels) < gate.k[-1]


def networks(data, models, densities, image_size, warm_up):
    """(model, network, data, images, labels) for each model and density."""
    dataset = load_data(data)
    images = dataset.train_images
    if image_size:
        images = F.interpolate(images[:4096].float(), size=(image_size, image_size)).to(torch.uint8)
    labels = dataset.train_labels[: len(images)]
    for model in models.split(","):
        for density in map(float, densities.split(",")):
            network = trained_a_while(model, density, dataset, images, labels, warm_up)
            yield model, network, dataset, images, labels


@click.command()
@click.option("--data", default="digits", show_default=True, help="As in `fedgate train`.")
@click.option("--run", "path", type=click.Path(), help="A run directory, in the place of data, models and densities.")
@click.option("--models", default="cnn,resnet20,resnet32,vgg16", show_default=True)
@click.option("--densities", default="0.5", show_default=True)
@click.option("--image-size", default=0, help="Enlarge or shrink the images to this many pixels square.")
@click.option("--warm-up", default=100, show_default=True, help="Steps of training before.")
@click.option("--steps", default=4, show_default=True, help="Steps a timing.")
@click.option("--turns", default=7, show_default=True)
@click.option("--collapsed", is_flag=True, help="The same channels for every image, as if masks had collapsed.")
@click.option("--quick", is_flag=True, help="Ten steps before, three turns of two steps.")
@json_option
def main(data, path, models, densities, image_size, warm_up, steps, turns, collapsed, quick, json_path):
    """Compare masked and sliced local training."""
    if quick:
        warm_up, steps, turns = 10, 2, 3
    torch.set_num_threads(1)
    rows, asked = [], [of_run(path)] if path else networks(data, models, densities, image_size, warm_up)
    for model, network, dataset, images, labels in asked:
        if collapsed:
            collapse(network)
        row = measure(network, dataset, images, labels, steps, turns)
        rows.append({"data": dataset.name, "model": model, "collapsed": collapsed, **row})
        print(
            f"{model:9} density {row['density']:g}: open {row['open_share']:.2f}, work {row['work_share']:.2f}, "
            f"{row['masked_ms']:.1f} -> {row['sliced_ms']:.1f} ms a step, "
            f"ratio {row['ratio']:.2f} ({row['ratio_low']:.2f} to {row['ratio_high']:.2f})",
            flush=True,
        )
    write_result(json_path, rows)


if __name__ == "__main__":
    main()
