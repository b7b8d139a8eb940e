"""What federation costs a client: images per CPU second of a client's whole task against a bare training loop.

Both train the same gated network on the same images with one thread. The client's task adds decoding the download,
augmentation, normalisation, salience records, gradient clipping and encoding the update. The two take turns in one
process, and the ratio is the median over the turns.

    python benchmarks/local_training.py --data PATH/TO/cifar10 --model resnet32
"""

import time

import click
import numpy as np
import torch
import torch.nn.functional as F
from result_file import json_option, write_result

from fedgate.device_runtime.board.machine import cpu_name
from fedgate.train.data.augment import normalise
from fedgate.train.data.load import load_data
from fedgate.train.engines.loop import Trainer
from fedgate.train.local.client import LocalPlan, batches, resolve_precision
from fedgate.train.network.build import build_network, load_tensors, network_tensors
from fedgate.train.network.channels import update_spec
from fedgate.train.server.downloads import Broadcast
from fedgate.train.strategies import ServerState


def bare_loop(network, x, y, plan):
    """One epoch of SGD over normalised images and nothing else; returns CPU seconds."""
    network.train()
    network.set_densities(plan.densities)
    optimizer = torch.optim.SGD(network.parameters(), plan.lr, plan.momentum, weight_decay=plan.weight_decay)
    generator = torch.Generator().manual_seed(0)
    started = time.process_time()
    for chosen in batches(len(y), plan.batch_size, generator):
        images = x[chosen].contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=plan.precision == "bf16"):
            loss = F.cross_entropy(network(images).float(), y[chosen])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return time.process_time() - started


@click.command()
@click.option("--data", default="digits", show_default=True, help="As in `fedgate train`.")
@click.option("--model", default="cnn", show_default=True)
@click.option("--gate", default="paper", show_default=True)
@click.option("--density", default=0.5, show_default=True)
@click.option("--images", default=1024, show_default=True, help="Of the one client.")
@click.option("--batch-size", default=64, show_default=True)
@click.option("--turns", default=7, show_default=True)
@click.option("--quick", is_flag=True, help="Three turns of 256 images.")
@json_option
def main(data, model, gate, density, images, batch_size, turns, quick, json_path):
    """Compare a client's task with a bare training loop."""
    if quick:
        images, turns = min(images, 256), 3
    torch.set_num_threads(1)
    dataset = load_data(data)
    images = min(images, len(dataset.train_labels))
    densities = (1.0,) if gate in ("none", "scale") else (density,)
    shape, statistics = tuple(dataset.train_images.shape[1:]), (dataset.mean, dataset.std)
    torch.manual_seed(0)
    network = build_network(model, gate, densities, len(dataset.labels), shape)
    plan = LocalPlan(
        densities=densities,
        epochs=1,
        batch_size=batch_size,
        lr=0.05,
        augment=dataset.augment,
        precision=resolve_precision("auto", torch.device("cpu")),
        seed=0,
    )
    part = np.arange(images)
    trainer = Trainer(network, dataset, [part], plan.precision)
    start = network_tensors(network)
    broadcast = Broadcast(ServerState(0, start), update_spec(network, "benchmark"))
    task = broadcast.blob(None), None, broadcast.spec
    x, y = normalise(dataset.train_images[:images], *statistics), dataset.train_labels[:images]
    ratios, speeds = [], {"client": [], "bare": []}
    for turn in range(turns + 1):  # the first warms up
        client = trainer.train(0, *task, plan, {}).cpu_seconds
        load_tensors(network, start)
        bare = bare_loop(network, x, y, plan)
        if turn:
            ratios.append(bare / client)
            speeds["client"].append(images / client)
            speeds["bare"].append(images / bare)
    row = {
        "cpu": cpu_name(),
        "data": dataset.name,
        "model": model,
        "gate": gate,
        "density": densities[0],
        "precision": plan.precision,
        "batch_size": batch_size,
        "turns": turns,
        "client_images_per_cpu_second": float(np.median(speeds["client"])),
        "bare_images_per_cpu_second": float(np.median(speeds["bare"])),
        "ratio": float(np.median(ratios)),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
    }
    for name, value in row.items():
        print(f"{name:30} {value if not isinstance(value, float) else f'{value:.3f}'}")
    write_result(json_path, [row])


if __name__ == "__main__":
    main()
