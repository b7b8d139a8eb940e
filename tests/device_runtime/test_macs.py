"""MAC counts against a naive loop, and against the published size of a known network."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.formats import macs
from fedgate.device_runtime.formats.macs import Layer

CHAIN = (
    Layer("stem", "conv", 3, 4, (3, 3), (6, 5)),
    Layer("a", "conv", 4, 6, (3, 3), (6, 5), gate=True),
    Layer("scaled", "conv", 6, 5, (1, 1), (3, 3), gate=True, input_gate="a", masked=False),
    Layer("b", "conv", 5, 8, (3, 1), (2, 3), gate=True, input_gate="scaled"),
    Layer("head", "linear", 48, 10, (1, 1), (1, 1), input_gate="b"),
)


def naive(layers, open_row):
    """Count one multiply-add at a time, as a program that skips closed channels would execute them."""
    masks, start = {}, 0
    for layer in layers:
        if layer.gate:
            masks[layer.name] = open_row[start : start + layer.out_channels]
            start += layer.out_channels
    counts = {}
    for layer in layers:
        count = 0
        for i in range(layer.in_channels):
            if layer.input_gate is not None:
                mask = masks[layer.input_gate]
                if not mask[i // (layer.in_channels // len(mask))]:
                    continue
            for o in range(layer.out_channels):
                count += layer.gate
                if not layer.gate or masks[layer.name][o]:
                    count += layer.kernel[0] * layer.kernel[1] * layer.output[0] * layer.output[1]
        counts[layer.name] = count
    return counts


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 1), min_size=19, max_size=19))
def test_executed_equals_a_naive_count(bits):
    open = np.array([bits, [1] * 19], np.uint8)
    counts = macs.executed(CHAIN, open)
    for row in range(2):
        assert {name: int(count[row]) for name, count in counts.items()} == naive(CHAIN, open[row])
    assert all(count.dtype == np.int64 and count.shape == (2,) for count in counts.values())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 3), st.integers(1, 4), st.booleans()), max_size=5))
def test_all_open_is_dense_and_gates(plan):
    layers, channels, source = [], 3, None
    for index, (width, kernel, side, gate) in enumerate(plan):
        layers.append(Layer(f"l{index}", "conv", channels, width, (kernel, kernel), (side, side), gate, source))
        channels, source = width, f"l{index}" if gate else None
    dense = macs.dense(layers)
    gates = {layer.name: layer.in_channels * layer.out_channels * layer.gate for layer in layers}
    counts = macs.executed(layers, np.ones((3, macs.mask_width(layers)), np.uint8))
    for layer in layers:
        assert counts[layer.name].tolist() == [dense[layer.name] + gates[layer.name]] * 3
        assert macs.nominal(layers, 1.0)[layer.name] == dense[layer.name] + gates[layer.name]


@pytest.mark.parametrize("density", [0.1, 0.25, 0.5, 0.61, 1.0])
def test_nominal_is_executed_with_that_many_open(density):
    row = []
    for layer in macs.gated(CHAIN):
        k = macs.open_count(density, layer.out_channels) if layer.masked else layer.out_channels
        row += [1] * k + [0] * (layer.out_channels - k)
    assert macs.nominal(CHAIN, density) == naive(CHAIN, row)


def test_kept_rounds_half_up_and_stays_in_range():
    assert [macs.open_count(0.5, n) for n in (1, 2, 3, 5, 16)] == [1, 1, 2, 3, 8]
    assert macs.open_count(0.01, 8) == 1 and macs.open_count(1.0, 8) == 8 and macs.open_count(0.61, 64) == 39


def test_resnet32_has_its_published_macs():
    # He et al., 2016: CIFAR ResNet-32, option A; 69 million multiply-adds is the figure in common use
    layers = [Layer("stem", "conv", 3, 16, (3, 3), (32, 32))]
    channels = 16
    for width, side in ((16, 32), (32, 16), (64, 8)):
        for block in range(5):
            for conv in (1, 2):
                name = f"{width}.{block}.{conv}"
                layers.append(Layer(name, "conv", channels, width, (3, 3), (side, side)))
                channels = width
    layers.append(Layer("head", "linear", 64, 10, (1, 1), (1, 1)))
    assert macs.total(macs.dense(layers)) == 68_862_592


def test_masks_of_another_shape_are_refused():
    for open in (np.ones((2, 18), np.uint8), np.ones(19, np.uint8)):
        with pytest.raises(FedgateError, match="19 gated channels"):
            macs.executed(CHAIN, open)


def test_layers_survive_json():
    text = json.dumps([layer.to_json() for layer in CHAIN])
    assert macs.layers_from_json(json.loads(text)) == CHAIN


WRONG = {
    "two of a name": [CHAIN[0], CHAIN[0]],
    "input gate unknown": [replace(CHAIN[1], input_gate="x")],
    "input gate later": [replace(CHAIN[1], input_gate="b"), CHAIN[3]],
    "input gate not gated": [CHAIN[0], replace(CHAIN[1], input_gate="stem")],
    "channels differ": [CHAIN[1], replace(CHAIN[2], in_channels=12)],
    "features do not divide": [CHAIN[1], replace(CHAIN[4], in_channels=49, input_gate="a")],
    "kind": [replace(CHAIN[0], kind="pool")],
    "no channels": [replace(CHAIN[0], in_channels=0)],
    "true as a number": [replace(CHAIN[0], in_channels=True)],
    "kernel of three": [replace(CHAIN[0], kernel=(3, 3, 3))],
    "kernel of a linear": [replace(CHAIN[4], kernel=(3, 3), input_gate=None)],
    "escape in a name": [replace(CHAIN[0], name="\x1b[2J")],
    "too many MACs": [replace(CHAIN[0], output=(2**14, 2**14), kernel=(1024, 1024))],
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_layers_are_refused(name):
    with pytest.raises(FedgateError):
        macs.layers_from_json([layer.to_json() for layer in WRONG[name]])
