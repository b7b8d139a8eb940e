"""Untrained networks that behave like trained ones, static and slim ones too, and images to run them on: what the
benchmark scripts share.

Random weights leave many planes all zero behind a ReLU, and random gates nearly constant masks; what skips channels
then looks faster than it is. `calibrated` sets norms and gates from images, layer by layer.
"""

import dataclasses

import click
import numpy as np
import torch
import torch.nn.functional as F

from fedgate.export.eval_networks import narrowed, unit_nodes
from fedgate.export.fold import copy_body, plain_conv
from fedgate.export.reference import kept_by_record
from fedgate.train.data.augment import normalise
from fedgate.train.data.load import load_data
from fedgate.train.network.build import GatedNetwork
from fedgate.train.network.gated_conv import ConvUnit, LevelNorm
from fedgate.train.network.gates import salience
from fedgate.train.network.salience import SalienceCollector

SPREAD = 0.3  # of g around 1, between images and channels: nearly all are above zero, so that ranks decide
DAMPING = 1.0  # how much lower g is where the salience is twice the usual; with half of it deep networks still overflow


@torch.no_grad()
def calibrated(network, images, seed=0):
    """Set a gated network's norm statistics and gates from images; returns the network, in evaluation mode.

    images: float32 (N, C, H, W), all passed at once, so that what one layer is set to is what the next one sees. Every
    norm's output then has mean 0 and variance 1 over the images, before its scale and shift (1 and 0 in a new
    network), so about half of what meets a ReLU passes. Gates are set by `set_gate`. All levels are set; they share
    the gates, which are set at the highest.
    """
    generator = torch.Generator().manual_seed(seed)
    norms = [norm for unit in network.units.values() for norm in unit.norms]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0  # the statistics become those of the one batch
    hooks = [
        gate.register_forward_pre_hook(lambda gate, inputs: set_gate(gate, salience(inputs[0]), generator))
        for gate in network.gates.values()
    ]
    chosen = network.level
    network.train()
    for level in reversed(range(len(network.densities))):
        network.level = level
        network(images)
        while hooks:
            hooks.pop().remove()
    network.level = chosen
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return network.eval()


def set_gate(gate, s, generator):
    """Set a gate's predictor so that it depends on the input; s: salience of the images, (N, C_in).

        g = 1 + W' s - DAMPING * (s . mean(s) / |mean(s)|^2 - 1)

    W' is random normal, without its part along mean(s): at the average salience every g is 1, as in a new gate, and
    what opens a channel is how the image differs from it. g deviates by `SPREAD`. The last term, the same for all
    channels, moves no rank; without it, as y = pi * norm(conv(x)) grows faster than x, deep networks overflow.
    """
    mean = s.mean(0)
    along = mean / mean.square().sum()
    weight = torch.randn(gate.predictor.weight.shape, generator=generator)
    weight -= torch.outer(weight @ mean, along)
    weight *= SPREAD / (s @ weight.T).std()
    gate.predictor.weight.copy_(weight - DAMPING * along)
    gate.predictor.bias.fill_(1 + DAMPING)


@torch.no_grad()
def most_opened(network, images, level=0):
    """The channels that a static network keeps at a level: by layer, those that the images open most often."""
    chosen, network.level = network.level, level
    collector = SalienceCollector(network)
    network(images)
    collector.add()
    network.level = chosen
    return kept_by_record(network, collector.record(), level)


def slim_network(network):
    """The plain network with the widths of a gated one's `static` program and no gates, as a `GatedNetwork`.

    A convolution whose output channels another layer reads through its mask (the first one of a residual block, all of
    a plain chain) has the k of the mask. What lands in a residual stream, which keeps its full width in `static`, has
    all its channels: a plain network scatters nothing. Weights are the first channels' and norms are new: calibrate it.
    """
    read = {layer.input_gate for layer in network.layers}
    kept = {name: gate.k[0] for name, gate in network.gates.items() if name in read}
    body, layers = copy_body(network), []
    units = {node.target: unit for node, unit in unit_nodes(body)}
    for layer in network.layers:
        c_out, c_in = kept.get(layer.name, layer.out_channels), layer.in_channels
        if layer.input_gate is not None:
            channels = network.gates[layer.input_gate].out_channels
            c_in = c_in // channels * kept[layer.input_gate]
        if layer.kind == "conv":
            unit = units[layer.name]
            conv = plain_conv(unit.conv, unit.conv.weight[:c_out, :c_in])
            body.set_submodule(layer.name, ConvUnit(conv, [LevelNorm(c_out)] if len(unit.norms) else [], None))
        elif layer.input_gate is not None:
            linear = body.get_submodule(layer.name)
            body.set_submodule(layer.name, narrowed(linear, np.arange(kept[layer.input_gate]), channels))
        layers.append(dataclasses.replace(layer, in_channels=c_in, out_channels=c_out, gate=False, input_gate=None))
    body.recompile()
    return GatedNetwork(body, layers, "none", (1.0,), network.shape)


def benchmark_images(data, shape, count):
    """Normalised images, float32 (count, C, H, W), and a label that says which: the data's name, or "synthetic".

    data: as in `fedgate train`, or None for `synthetic_images`. Images of another size are resized.
    """
    if data is None:
        return synthetic_images(shape, count), "synthetic"
    dataset = load_data(data)
    images = normalise(dataset.train_images[:count], dataset.mean, dataset.std)
    if images.shape[1] != shape[0]:
        raise click.ClickException(f"the images of '{data}' have {images.shape[1]} channels, not {shape[0]}")
    if images.shape[2:] != tuple(shape[1:]):
        images = F.interpolate(images, shape[1:], mode="bilinear", antialias=True)
    return images, dataset.name


def synthetic_images(shape, count, seed=0):
    """Smooth noise of mean 0 and variance 1, float32 (count, C, H, W): strong in low frequencies, as photos."""
    generator = torch.Generator().manual_seed(seed)
    channels, *size = shape
    images = torch.zeros(count, *shape)
    for cells in (2, 4, 8, 16):
        noise = torch.randn(count, channels, cells, cells, generator=generator)
        images += F.interpolate(noise, size, mode="bicubic") / cells
    return (images - images.mean((0, 2, 3), keepdim=True)) / images.std((0, 2, 3), keepdim=True)
