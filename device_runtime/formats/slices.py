"""Slices of a network's tensors between channels: what a message carries, and what aggregation adds up.

`axes` of a tensor: for each of its dimensions the gated layer whose channels index it, or None. A dimension of d
entries behind a layer of C channels holds d / C entries a channel, channel i those from i * d / C on (a linear layer
behind a flatten). `channels`: kept channels by gated layer, sorted. `sizes`: C by gated layer.
An entry is in the slice when every channel that indexes it is kept; a tensor without gated axes is always whole.
"""

import numpy as np

Axes = tuple[str | None, ...]


def slice_shape(shape: tuple[int, ...], axes: Axes, channels: dict, sizes: dict) -> tuple[int, ...]:
    """Shape of the slice of a tensor."""
    return tuple(
        d if layer is None else len(channels[layer]) * (d // sizes[layer]) for d, layer in zip(shape, axes, strict=True)
    )


def take(value: np.ndarray, axes: Axes, channels: dict, sizes: dict) -> np.ndarray:
    """The slice of `value` between kept channels; `value` itself where all are kept."""
    index = _index(value.shape, axes, channels, sizes)
    return value if index is None else value[index]


def put(target: np.ndarray, axes: Axes, channels: dict, sizes: dict, part: np.ndarray) -> None:
    """Write a slice, as `take` gives it, into `target`."""
    index = _index(target.shape, axes, channels, sizes)
    target[... if index is None else index] = part


def mask(shape: tuple[int, ...], axes: Axes, channels: dict, sizes: dict) -> np.ndarray:
    """Which entries of a tensor are in its slice: bool of `shape`."""
    found = np.zeros(shape, bool)
    put(found, axes, channels, sizes, np.True_)
    return found


def _index(shape, axes, channels, sizes):
    """An open mesh over the dimensions up to the last gated one; None where everything is kept."""
    cut = [layer is not None and len(channels[layer]) < sizes[layer] for layer in axes]
    if not any(cut):
        return None
    entries, last = [], 0
    for i, (d, layer) in enumerate(zip(shape, axes, strict=True)):
        if not cut[i]:
            entries.append(np.arange(d))
            continue
        each, last = d // sizes[layer], i + 1
        kept = np.asarray(channels[layer], np.int64)
        entries.append((kept[:, None] * each + np.arange(each)).ravel())
    return np.ix_(*entries[:last])
