"""Gated networks with weights and activations of a short real training, whose masks depend on the input.

Random weights would not do: behind them most channels are all zero, and gates that were just initialised choose the
same channels for every input, so a program with constant masks would pass.
"""

import copy
import functools

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from fedgate.export.reference import EagerReference, kept_by_record
from fedgate.train.data.augment import normalise
from fedgate.train.data.load import load_data
from fedgate.train.local.client import LocalPlan, train_locally
from fedgate.train.network.build import build_network
from fedgate.train.network.gates import salience
from fedgate.train.network.salience import SalienceCollector

LEVELS = (0.25, 0.5, 0.75, 1.0)
INPUTS = 64
TRAINED = 128  # images


@functools.cache
def digits(size):
    """scikit-learn's digits in an image's size: (images uint8, labels, test images uint8, (mean, std)).

    8: as they are, (n, 1, 8, 8). 32: enlarged, with a digit and its two mirror images as the colours.
    """
    data = load_data("digits")
    images = torch.cat([data.train_images[:TRAINED], data.test_images[:INPUTS]])
    if size == 32:
        large = F.interpolate(images.float(), size=(32, 32), mode="bilinear").round().to(torch.uint8)
        images = torch.cat([large, large.flip(3), large.flip(2)], 1)
    scaled = images[:TRAINED].float() / 255
    statistics = tuple(map(tuple, (scaled.mean((0, 2, 3)).tolist(), scaled.std((0, 2, 3)).tolist())))
    return images[:TRAINED], data.train_labels[:TRAINED], images[TRAINED:], statistics


def image_size(model):
    return 8 if model == "cnn" else 32


@functools.cache
def inputs(model):
    """The test inputs of a model, normalised: float32 (64, C, H, W)."""
    _, _, test, statistics = digits(image_size(model))
    return normalise(test, *statistics).numpy()


def spread_gates(network, x):
    """Draw predictors whose order of channels depends on the input, and in each eighth channel also the sign of g.

    The rows are orthogonal to the mean salience over the inputs x, so that only differences between inputs count, and
    half as long as one over it: with longer ones g follows the size of the activations, and those explode.
    """

    def spread(gate, args):
        s = salience(args[0])  # (N, C_in)
        mean = s.mean(0)
        weight = torch.randn(gate.out_channels, len(mean))
        weight -= (weight @ mean)[:, None] * mean / (mean @ mean)
        weight *= 0.5 / (weight.norm(dim=1, keepdim=True) * mean.norm())
        gate.predictor.weight.copy_(weight)
        gate.predictor.bias.fill_(1.0)[::8] = 0.0

    hooks = [gate.register_forward_pre_hook(spread) for gate in network.gates.values()]
    with torch.no_grad():
        network(x)  # layer by layer, each behind gates that were already spread
    for hook in hooks:
        hook.remove()


@torch.no_grad()
def settle_norms(network, x):
    """Give every level's norms the statistics of the inputs x under the weights and masks that the network has now."""
    for unit in network.units.values():
        for norm in unit.norms:
            norm.momentum = 1.0
    network.train()
    for level in range(len(network.densities)):
        network.level = level
        network(x)


@functools.lru_cache(maxsize=2)
def trained(model, gate="paper", densities=LEVELS, width=1.0):
    """(network, salience record of its training images), the network in evaluation mode."""
    torch.manual_seed(0)
    images, labels, _, statistics = digits(image_size(model))
    network = build_network(model, gate, densities, 10, tuple(images.shape[1:]), width)
    x = normalise(images, *statistics)
    spread_gates(network, x)
    settle_norms(network, x)
    plan = LocalPlan(
        densities=densities,
        epochs=2,
        batch_size=32,
        lr=0.02,
        seed=0,
    )
    train_locally(network, images, labels, statistics, plan)
    settle_norms(network, x)
    return network.eval(), record_of(network, x)


@torch.no_grad()
def record_of(network, x):
    """The salience record of the inputs x at every level, as clients count it."""
    collector = SalienceCollector(network.eval())
    for level in range(len(network.densities)):
        network.level = level
        network(x)
        collector.add()
    network.forget()
    return collector.record()


def at_level(network, level):
    """The network of one density that a level of a network is."""
    network.forget()
    single = copy.deepcopy(network)
    single.densities, single.level = (network.densities[level],), 0
    single.set_densities(single.densities)
    for unit in single.units.values():
        unit.norms, unit.level = nn.ModuleList(unit.norms[level : level + 1]), 0
    return single


class RememberingReference(EagerReference):
    """Runs once what several runtimes are compared with: they nearly always choose the same masks."""

    def __init__(self, network):
        super().__init__(network)
        self.seen = {}

    def run(self, images, level, forced=None):
        key = (images.tobytes(), level, None if forced is None else np.packbits(forced.astype(bool)).tobytes())
        if key not in self.seen:
            self.seen[key] = super().run(images, level, forced)
        return self.seen[key]


@functools.lru_cache(maxsize=2)
def subject(model, densities, gate="paper", width=1.0):
    """(network, reference, kept): a trained network at some of `LEVELS`, and by level what its static programs keep.

    The networks of one density are the levels of one training.
    """
    network, record = trained(model, gate, LEVELS if gate in ("paper", "fbs") else (1.0,), width)
    kept = [kept_by_record(network, record, level) for level in range(len(network.densities))]
    if densities != network.densities:
        level = network.densities.index(densities[0])
        network, kept = at_level(network, level), kept[level : level + 1]
    return network, RememberingReference(network), kept


def distinct_masks(network, masks):
    """By gated layer, how many different masks there are among masks (n, sum of C_out)."""
    columns = EagerReference(network).columns
    return {name: len(np.unique(masks[:, part], axis=0)) for name, part in columns.items()}
