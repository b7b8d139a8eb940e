"""What a client's own static program is worth to it: accuracy on its own classes, before and after a local epoch.

A gated network and a dense one are trained federatedly in the same way. Clients that hold 2 or 3 classes then get each
of these, and train it for one epoch on their own examples:

- dynamic: the gates choose the channels of each image,
- static, global: always the channels that all training images open most,
- static, own: always the channels that the client's own examples open most, as `fedgate export --client` fixes them,
- dense.

A client is judged on test images of the classes it holds, weighted by how much of each it holds.

    python benchmarks/personal.py --data PATH/TO/cifar10 --size 16 --model resnet20 --train-images 10000
"""

import time

import click
import numpy as np
import torch
from result_file import json_option, write_result

from fedgate.device_runtime.board.machine import cpu_name
from fedgate.device_runtime.tables import console, table
from fedgate.export.reference import kept_by_record
from fedgate.train.config.resolve import resolve
from fedgate.train.data.class_table import class_table
from fedgate.train.data.load import load_data
from fedgate.train.data.partition import partition
from fedgate.train.local.client import LocalPlan, client_seed, resolve_precision, train_locally
from fedgate.train.local.evaluation import evaluate
from fedgate.train.network.build import build_network, load_tensors, network_tensors
from fedgate.train.network.salience import observe
from fedgate.train.report.personal import own_test_images, worst_decile
from fedgate.train.server.schedule import densities_at, learning_rate_at

DEFAULTS = resolve()


class Bench:
    """The data, cut to a subset, and the two steps that everything here is made of: train and judge."""

    def __init__(self, data, train_images, test_images, batch_size, seed):
        self.data, self.batch_size, self.seed = data, batch_size, seed
        self.train = data.train_images[:train_images], data.train_labels[:train_images]
        self.test = data.test_images[:test_images], data.test_labels[:test_images]
        self.statistics = (data.mean, data.std)
        self.precision = resolve_precision("auto", torch.device("cpu"))

    def local_epoch(self, network, part, densities, lr, seed):
        plan = LocalPlan(
            densities=densities,
            epochs=1,
            batch_size=self.batch_size,
            lr=lr,
            augment=self.data.augment,
            precision=self.precision,
            seed=seed,
        )
        images, labels = (tensor[torch.from_numpy(part)] for tensor in self.train)
        train_locally(network, images, labels, self.statistics, plan)

    def federated(self, network, parts, rounds, lr):
        """FedAvg over `parts` with the default schedules of density and learning rate; trains `network` in place."""
        state, shares = network_tensors(network), [len(part) / sum(map(len, parts)) for part in parts]
        for done in range(rounds):
            rate = learning_rate_at(lr, done, rounds, DEFAULTS.lr_schedule)
            densities, mean = densities_at(network.densities, done, rounds, DEFAULTS.density_schedule), {}
            for client, (part, share) in enumerate(zip(parts, shares, strict=True)):
                load_tensors(network, state)
                self.local_epoch(network, part, densities, rate, client_seed(self.seed, done, client))
                for name, value in network_tensors(network).items():
                    mean[name] = mean.get(name, 0.0) + share * value.astype(np.float64)
            state = {name: value.astype(np.float32) for name, value in mean.items()}
        load_tensors(network, state)
        network.set_densities(network.densities)
        return state

    def judge(self, network, chosen, held):
        """Accuracy on the test images `chosen` (indices), weighted by the classes `held` (classes,)."""
        images, labels = (tensor[torch.from_numpy(chosen)] for tensor in self.test)
        network.set_densities(network.densities)
        found = evaluate(network, images, labels, self.statistics, self.precision, len(self.data.labels))
        return found.client_accuracy(held[None])[0, 0]


def force(network, kept):
    """Fix a network's masks to the channels `kept` by gated layer; None lets the gates choose again."""
    for name, gate in network.gates.items():
        gate.forced = None
        if kept is not None:
            gate.forced = torch.zeros(gate.out_channels, dtype=torch.bool)
            gate.forced[torch.from_numpy(kept[name])] = True


def kept_channels(bench, network, part):
    """The channels that a static program keeps, from the record of the training images `part`."""
    return kept_by_record(network, observe(network, bench.train[0][torch.from_numpy(part)], bench.statistics), 0)


def compare(bench, networks, clients, classes, finetune_lr):
    """Rows for clients of a number of classes; networks: "gated" and "dense" -> (network, its trained tensors)."""
    labels = bench.train[1].numpy()
    parts = partition(labels, clients, f"classes:{classes}", bench.seed)
    held = class_table(labels, parts, len(bench.data.labels))
    gated, trained = networks["gated"]
    load_tensors(gated, trained)
    force(gated, None)
    everybody, found = kept_channels(bench, gated, np.arange(len(labels))), {}
    for client, part in enumerate(parts):
        load_tensors(gated, trained)
        force(gated, None)
        masks = {"dynamic": None, "static, global": everybody, "static, own": kept_channels(bench, gated, part)}
        chosen = own_test_images(held[client], bench.test[1].numpy(), bench.seed)
        for name in (*masks, "dense"):
            network, tensors = networks["dense" if name == "dense" else "gated"]
            load_tensors(network, tensors)
            force(network, masks.get(name))
            before = bench.judge(network, chosen, held[client])
            seed = client_seed(bench.seed, 2**20, client)
            bench.local_epoch(network, part, network.densities, finetune_lr, seed)
            found.setdefault(name, []).append((before, bench.judge(network, chosen, held[client])))
    return [
        {
            "classes": classes,
            "clients": clients,
            "network": name,
            "local_epochs": epochs,
            "accuracy": float(np.mean(pairs, axis=0)[epochs]),
            "worst_decile": float(worst_decile(np.array(pairs).T)[epochs]),
        }
        for name, pairs in found.items()
        for epochs in (0, 1)
    ]


def show(rows, title):
    made = table(
        "clients of", "network", "accuracy", "worst decile", "after an epoch", "worst decile", title=title, right=4
    )
    for before, after in zip(rows[::2], rows[1::2], strict=True):
        cells = [f"{100 * row[key]:.2f} %" for row in (before, after) for key in ("accuracy", "worst_decile")]
        made.add_row(f"{before['classes']} classes", before["network"], *cells)
    console().print(made)


@click.command()
@click.option("--data", default="digits", show_default=True, help="As in `fedgate train`.")
@click.option("--size", type=int, help="Resize images to this many pixels square.")
@click.option("--train-images", type=int, help="Use the first so many.")
@click.option("--test-images", type=int, help="Use the first so many.")
@click.option("--model", default="cnn", show_default=True)
@click.option("--density", default=0.5, show_default=True)
@click.option("--federation", default="dirichlet:1.0", show_default=True, help="Partition of the training before.")
@click.option("--members", default=5, show_default=True, help="Its clients.")
@click.option("--rounds", default=20, show_default=True, help="Its rounds, of one local epoch.")
@click.option("--lr", default=0.1, show_default=True)
@click.option("--batch-size", default=32, show_default=True)
@click.option("--clients", default=10, show_default=True, help="Clients of few classes.")
@click.option("--finetune-lr", default=0.01, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--quick", is_flag=True, help="At most eight rounds.")
@json_option
def main(data, size, train_images, test_images, model, density, federation, members, rounds, lr, batch_size, clients,
         finetune_lr, seed, quick, json_path):  # fmt: skip
    """Compare dynamic, static and dense networks on clients of few classes."""
    rounds = min(rounds, 8) if quick else rounds
    torch.set_num_threads(1)
    started = time.process_time()
    bench = Bench(load_data(data, size=size), train_images, test_images, batch_size, seed)
    shape, labels = tuple(bench.train[0].shape[1:]), bench.train[1].numpy()
    parts = partition(labels, members, federation, seed)
    everything, networks = np.arange(len(bench.test[1])), {}
    facts = {
        "cpu": cpu_name(),
        "data": bench.data.name,
        "train_images": len(labels),
        "test_images": len(everything),
        "image": list(shape),
        "model": model,
        "density": density,
        "federation": federation,
        "rounds": rounds,
        "finetune_lr": finetune_lr,
        "seed": seed,
    }
    for name, gate, densities in (("gated", "paper", (density,)), ("dense", "none", (1.0,))):
        torch.manual_seed(seed)
        network = build_network(model, gate, densities, len(bench.data.labels), shape)
        network = network.to(memory_format=torch.channels_last)
        networks[name] = network, bench.federated(network, parts, rounds, lr)
        facts[f"{name}_accuracy"] = bench.judge(network, everything, np.bincount(bench.test[1].numpy()))
    rows = [row for k in (2, 3) for row in compare(bench, networks, clients, k, finetune_lr)]
    title = (
        f"{bench.data.name}, {model}, density {density:g}, trained for {rounds} rounds ({federation}): "
        f"all classes {100 * facts['gated_accuracy']:.2f} % gated, {100 * facts['dense_accuracy']:.2f} % dense"
    )
    show(rows, title)
    print(f"{time.process_time() - started:.0f} CPU seconds on {facts['cpu']}")
    write_result(json_path, [facts | row for row in rows])


if __name__ == "__main__":
    main()
