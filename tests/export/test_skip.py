"""`skip` networks in eager PyTorch, against `masked` ones; what is fused; and what of a network the kernel leaves."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_networks import NETWORKS, random_images, small_network
from torch import nn

from fedgate.export.eval_networks import masked_network
from fedgate.export.gated_conv2d import Options
from fedgate.export.kernel_table import pays
from fedgate.export.skip import SkipUnit, kernel_layers, skip_network
from fedgate.train.network.build import build_network, gate_network


def level_input(level):
    return torch.tensor([level], dtype=torch.int32)


@torch.no_grad()
def assert_same(skip, masked, images, levels):
    for level in range(levels):
        (mine, masks), (right, expected) = skip(images, level_input(level)), masked(images, level_input(level))
        assert masks.dtype == torch.uint8 and torch.equal(masks, expected)
        assert (mine - right).abs().max() <= 1e-5 * right.abs().max()


@pytest.mark.parametrize("densities", [(0.5,), (0.3, 0.6, 1.0)])
@pytest.mark.parametrize("name", NETWORKS)
def test_equals_masked(name, densities):
    network = small_network(name, densities)
    skip = skip_network(network)
    assert kernel_layers(skip)
    assert_same(skip, masked_network(network), random_images(), len(densities))


@pytest.mark.parametrize("left", ["every second", "all"])
@pytest.mark.parametrize("name", NETWORKS)
def test_layers_that_stay_with_stock_operators(name, left):
    network = small_network(name, (0.3, 1.0))
    convolutions = [layer.name for layer in network.layers if layer.kind == "conv"]
    chosen = set(convolutions[::2] if left == "every second" else [])
    skip = skip_network(network, wanted=lambda layer: layer.name in chosen)
    assert set(kernel_layers(skip)) <= chosen
    assert_same(skip, masked_network(network), random_images(), 2)


def options_of(network):
    body = skip_network(network)
    return {name: module.options for name, module in body.named_modules() if isinstance(module, SkipUnit)}, body


def test_resnet_blocks_are_fused():
    """Every node of the network's trunk is the operator: no add, ReLU, slice or pad is left between its calls."""
    network = build_network("resnet20", "paper", (0.5,), 10, (3, 32, 32)).eval()
    options, body = options_of(network)
    assert len(options) == 19 and all(option.relu for option in options.values())
    assert options["stages.1.0.conv2"] == Options(1, True, 1, 2, 8)
    left = {node.name for node in body.graph.nodes if node.op != "call_module" and "getitem" not in node.name}
    assert left == {"x", "level", "mean", "cat", "output"}


def test_projections_and_pools_are_fused():
    options, _ = options_of(build_network("resnet18", "paper", (0.5,), 10, (3, 32, 32)).eval())
    assert options["stages.1.0.shortcut.0"] == Options(2, False, 1, 1, 0)
    assert options["stages.1.0.conv2"] == Options(1, True, 1, 1, 0)
    options, _ = options_of(build_network("vgg11", "paper", (0.5,), 10, (3, 32, 32)).eval())
    assert [option.pool for option in options.values()] == [2, 2, 1, 2, 1, 2, 1, 2]


class Around(nn.Module):
    """What may not be fused: results that are used twice, pools and slices of other kinds, other convolutions."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.one, self.two = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 5, padding=2)
        self.three, self.four = nn.Conv2d(6, 12, 3, 2, 1), nn.Conv2d(12, 12, 3)
        self.pool, self.head = nn.MaxPool2d(3, 1, 1), nn.Linear(12, 5)

    def forward(self, x):
        x = F.relu(self.stem(x))
        y = self.one(x)
        y = F.relu(y) + y  # used twice
        y = F.relu(self.two(self.pool(y)) + x)  # 5x5 is not the kernel's
        shortcut = F.pad(y[:, :, 1::2, 1::2], (0, 0, 0, 0, 6, 0))  # begins at the second row
        y = torch.relu(shortcut + self.three(y))
        return self.head(F.relu(self.four(y)).mean((2, 3)))  # without padding


def test_what_is_not_the_kernels_stays():
    torch.manual_seed(3)
    network = gate_network(Around(), (3, 8, 8), "paper", (0.4, 1.0)).eval()
    skip = skip_network(network)
    assert kernel_layers(skip) == ("stem", "one", "three")
    assert_same(skip, masked_network(network), torch.randn(16, 3, 8, 8), 2)


def test_the_table_leaves_small_maps_dense_at_high_densities():
    """VGG-16's last convolutions see 2x2 pixels: there the kernel pays at low densities alone."""
    layers = {layer.name: layer for layer in build_network("vgg16", "paper", (0.5,), 10, (3, 32, 32)).layers}
    small = [name for name, layer in layers.items() if layer.kind == "conv" and layer.output == (2, 2)]
    assert len(small) == 3
    assert all(pays(layer, (0.25, 0.5)) for layer in layers.values() if layer.kind == "conv")
    left = [name for name, layer in layers.items() if layer.kind == "conv" and not pays(layer, (0.5, 0.8))]
    assert left == small


def test_a_gate_that_only_scales_stays():
    network = small_network("residual", (1.0,), "scale")
    assert not set(kernel_layers(skip_network(network))) & set(network.gates)


def test_masks_of_the_operator_follow_the_ranks():
    """Ties by the lower index, and nothing opens at zero: on values that are exact."""
    from fedgate.export.gated_conv2d import compute

    x = torch.ones(1, 1, 2, 2)
    gate_weight = torch.tensor([[1.0, 2.0, 2.0, -1.0, 2.0, 0.0]])
    tensors = (x, torch.ones(6, 1, 1, 1), torch.ones(2, 6), torch.zeros(2, 6))
    gate = (gate_weight, torch.zeros(6), torch.tensor([2, 5], dtype=torch.int32))
    for level, expected in ((0, [0, 1, 1, 0, 0, 0]), (1, [1, 1, 1, 0, 1, 0])):
        y, opened = compute(*tensors, level_input(level), None, *gate, None, Options())
        assert opened[0].tolist() == expected
        assert np.array_equal(y[0, :, 0, 0].numpy(), gate_weight[0].numpy() * expected)
