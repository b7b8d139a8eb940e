"""The networks that are exported, in eager PyTorch, against the gated network itself; and exact ties in programs."""

import copy

import numpy as np
import pytest
import torch
from lowered import load, lowered, plan
from small_networks import NETWORKS, exact_network, integer_images, random_images, small_network
from torch import nn

from fedgate.device_runtime.formats.macs import gated, mask_slices, open_count
from fedgate.export.eval_networks import dense_network, masked_network, static_network
from fedgate.export.modules import Scatter, StaticUnit
from fedgate.export.reference import EagerReference, fixed_masks

DENSITIES = ((0.5,), (1.0,), (0.3, 0.6, 1.0))
CASES = [(name, densities) for name in NETWORKS for densities in DENSITIES]


def level_input(level):
    return torch.tensor([level], dtype=torch.int32)


def assert_close(mine, right):
    right = np.asarray(right)
    assert np.abs(np.asarray(mine) - right).max() <= 1e-5 * np.abs(right).max()


@pytest.mark.parametrize("name,densities", CASES)
@torch.no_grad()
def test_masked_network(name, densities):
    network = small_network(name, densities)
    masked, reference = masked_network(network), EagerReference(network)
    images = random_images()
    for level in range(len(densities)):
        logits, masks = masked(images, level_input(level))
        assert masks.dtype == torch.uint8
        right, own_masks, gates = reference.run(images.numpy(), level)
        assert np.array_equal(masks.numpy(), own_masks) and masks.float().std(0).max() > 0
        assert_close(logits, right)
        assert_close(logits, reference.run(images.numpy(), level, forced=masks.numpy())[0])
        for layer, part in zip(gated(network.layers), mask_slices(network.layers).values(), strict=True):
            k = open_count(densities[level], layer.out_channels)
            assert np.array_equal(masks[:, part].sum(1).numpy(), np.minimum(k, (gates[:, part] > 0).sum(1)))


@pytest.mark.parametrize("gate", ["fbs", "scale"])
@torch.no_grad()
def test_masked_network_of_other_gates(gate):
    network = small_network("residual", (1.0,) if gate == "scale" else (0.4, 0.8), gate)
    masked, reference = masked_network(network), EagerReference(network)
    for level in range(len(network.densities)):
        logits, masks = masked(random_images(), level_input(level))
        right, own_masks, _ = reference.run(random_images().numpy(), level)
        assert np.array_equal(masks.numpy(), own_masks)
        assert_close(logits, right)


def random_kept(network, level, seed):
    """Channels to keep by gated layer, as many as the level has."""
    draw = np.random.default_rng(seed)
    return {name: np.sort(draw.permutation(gate.out_channels)[: gate.k[level]]) for name, gate in network.gates.items()}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name,densities", CASES)
@torch.no_grad()
def test_static_network(name, densities, seed):
    network = small_network(name, densities, seed=seed)
    reference, images = EagerReference(network), random_images()
    for level in range(len(densities)):
        channels = random_kept(network, level, seed)
        static = static_network(network, level, channels)
        masks = fixed_masks(network.layers, channels)
        assert_close(static(images), reference.run(images.numpy(), level, forced=masks)[0])
        for unit_name, unit in static.named_modules():
            if isinstance(unit, StaticUnit):
                assert unit.conv.out_channels == network.gates[unit_name].k[level]


@torch.no_grad()
def test_closed_channels_are_gone_from_every_layer_that_reads_them():
    network = small_network("flatten", (0.5,))
    static = static_network(network, 0, random_kept(network, 0, 0))
    assert [m.in_features for m in static.modules() if isinstance(m, nn.Linear)] == [5 * 16]
    network = small_network("max pooling", (0.5,))
    static = static_network(network, 0, random_kept(network, 0, 0))
    assert [tuple(m.weight.shape[:2]) for m in static.modules() if isinstance(m, nn.Conv2d)][-2:] == [(4, 5), (4, 5)]
    assert not any(isinstance(m, Scatter) for m in static.modules())
    static = static_network(small_network("residual", (0.5,)), 0, random_kept(small_network("residual", (0.5,)), 0, 0))
    assert sum(isinstance(m, Scatter) for m in static.modules()) == 1  # into the sum, which needs every channel


@pytest.mark.parametrize("name,densities", CASES)
@torch.no_grad()
def test_dense_network(name, densities):
    network = small_network(name, densities)
    dense = dense_network(network)
    assert_close(dense(random_images()), EagerReference(network).dense(random_images().numpy()))
    bare = copy.deepcopy(network).eval()
    for unit in bare.units.values():
        unit.gate = None
    for level in range(len(densities)):
        bare.level = level
        assert_close(dense_network(network, level)(random_images()), bare(random_images()))


def ranked(g, k):
    """The mask of one layer's gate values by the definition, channel by channel: the lower index first among equals."""
    ahead = [sum(b > a or (b == a and j < i) for j, b in enumerate(g)) for i, a in enumerate(g)]
    return [int(rank < k and a > 0) for rank, a in zip(ahead, g, strict=True)]


@torch.no_grad()
def test_ties_in_eager():
    densities = (0.25, 0.5, 0.75)
    network, images = exact_network(densities), integer_images()
    reference, masked = EagerReference(network), masked_network(network)
    layers = list(zip(gated(network.layers), mask_slices(network.layers).values(), strict=True))
    deciding = dict.fromkeys(network.gates, 0)
    for level, density in enumerate(densities):
        network.level = level
        network(images)
        _, masks, gates = reference.run(images.numpy(), level)
        # float32 and float64 agree in every bit, so that the sums are exact in any order
        assert np.array_equal(torch.cat([gate.g for gate in network.gates.values()], 1).numpy(), gates)
        for layer, part in layers:
            k = open_count(density, layer.out_channels)
            for g, mask in zip(gates[:, part].tolist(), masks[:, part], strict=True):
                assert ranked(g, k) == mask.tolist()
                order = sorted(g, reverse=True)
                deciding[layer.name] += order[k - 1] == order[k] > 0
        assert np.array_equal(network.open().numpy(), masks)
        assert np.array_equal(masked(images, level_input(level))[1].numpy(), masks)
    assert all(count > 20 for count in deciding.values()), (
        deciding
    )  # the k-th and the next are equal: the index decides


@pytest.mark.parametrize("runtime", ["executorch", "litert", "onnx"])
def test_ties_in_programs(runtime, tmp_path):
    densities = (0.25, 0.5, 0.75)
    network, images = exact_network(densities), integer_images().numpy()
    loaded = load(lowered(plan("masked", masked_network(network), network, 5), runtime, network, tmp_path))
    reference = EagerReference(network)
    for level in range(len(densities)):
        right, masks, _ = reference.run(images, level)
        runs = [loaded.run(image[None], level) for image in images]
        assert np.array_equal(np.concatenate([found.open for found in runs]), masks)
        assert_close(np.concatenate([found.logits for found in runs]), right)
