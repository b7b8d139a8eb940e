"""Which channels index which entries of a network's tensors, against what autograd says of closed channels."""

import numpy as np
import pytest
import torch

from fedgate.device_runtime.formats.slices import mask
from fedgate.train.network.build import build_network, network_tensors, parameter_axes

SHAPES = {"cnn": (1, 8, 8), "vgg11": (3, 32, 32), "resnet20": (3, 32, 32)}


@pytest.mark.parametrize("model", SHAPES)
def test_a_gradient_is_zero_where_one_of_the_channels_is_closed(model):
    torch.manual_seed(0)
    network = build_network(model, "paper", (1.0,), 10, SHAPES[model], width=0.25)
    kept = {}
    for name, gate in network.gates.items():
        kept[name] = np.arange(0, gate.out_channels, 2, dtype=np.uint16)
        gate.forced = torch.zeros(gate.out_channels, dtype=torch.bool)
        gate.forced[::2] = True
    network(torch.randn(4, *SHAPES[model])).square().mean().backward()
    axes, sizes = parameter_axes(network), {name: gate.out_channels for name, gate in network.gates.items()}
    assert axes.keys() == network_tensors(network).keys()
    for name, parameter in network.body.named_parameters():
        kept_entries = mask(tuple(parameter.shape), axes[name], kept, sizes)
        moved = parameter.grad.numpy() != 0
        assert not (moved & ~kept_entries).any(), name
        if name.endswith("conv.weight"):  # and no fewer: what is kept does get a gradient
            assert moved[kept_entries].mean() > 0.5, name


def test_statistics_belong_to_the_channels_of_their_layer():
    axes = parameter_axes(build_network("cnn", "paper", (0.5, 1.0), 10, (1, 8, 8)))
    assert axes["features.3.norms.1.running_var"] == axes["features.3.norms.0.running_mean"] == ("features.3",)
    assert axes["features.0.norms.0.running_mean"] == (None,)  # the stem's


def test_a_network_without_gates_has_no_gated_axes():
    network = build_network("resnet20", "none", (1.0,), 10, (3, 32, 32))
    assert {layer for axes in parameter_axes(network).values() for layer in axes} == {None}
