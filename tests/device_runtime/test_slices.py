"""Slices between kept channels, against a loop over every entry of a tensor."""

import itertools

import numpy as np
import pytest

from fedgate.device_runtime.formats.slices import mask, put, slice_shape, take

SIZES = {"a": 4, "b": 3}
KEPT = {"a": np.array([0, 3], np.uint16), "b": np.array([1], np.uint16)}
CASES = [
    ((4, 3, 2, 2), ("a", "b", None, None)),
    ((4, 5, 3, 3), ("a", None, None, None)),
    ((5, 3, 1, 1), (None, "b", None, None)),
    ((4,), ("a",)),
    ((6, 8), (None, "a")),  # a flatten of two positions
    ((6, 12), ("b", "b")),
    ((7, 2), (None, None)),
    ((), ()),
]


def kept_entry(index, shape, axes):
    """Whether each channel that indexes this entry is kept."""
    return all(
        layer is None or i // (d // SIZES[layer]) in KEPT[layer].tolist()
        for i, d, layer in zip(index, shape, axes, strict=True)
    )


@pytest.mark.parametrize("shape,axes", CASES)
def test_a_slice_is_the_entries_whose_channels_are_all_kept(shape, axes):
    value = np.random.default_rng(0).normal(size=shape)
    entries = [index for index in itertools.product(*map(range, shape)) if kept_entry(index, shape, axes)]
    part = take(value, axes, KEPT, SIZES)
    assert part.ravel().tolist() == [value[index] for index in entries]
    assert part.shape == slice_shape(shape, axes, KEPT, SIZES)
    assert [tuple(index) for index in np.argwhere(mask(shape, axes, KEPT, SIZES))] == entries
    target = np.zeros(shape)
    put(target, axes, KEPT, SIZES, part)
    assert (target == np.where(mask(shape, axes, KEPT, SIZES), value, 0)).all()


@pytest.mark.parametrize("shape,axes", CASES)
@pytest.mark.parametrize("everything", [True, False])
def test_all_or_no_channels(shape, axes, everything):
    kept = {layer: np.arange(size if everything else 0, dtype=np.uint16) for layer, size in SIZES.items()}
    value = np.random.default_rng(0).normal(size=shape)
    whole = everything or set(axes) <= {None}
    assert take(value, axes, kept, SIZES).size == (value.size if whole else 0)
    assert mask(shape, axes, kept, SIZES).all() == whole
    target = np.zeros(shape)
    put(target, axes, kept, SIZES, take(value, axes, kept, SIZES))
    assert (target == value * whole).all()
