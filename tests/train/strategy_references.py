"""A small network's tensors and random updates between some of their channels, entry by entry."""

import numpy as np

from fedgate.device_runtime.formats.update import Update, UpdateSpec
from fedgate.train.strategies import ServerState, Strategy

SIZES = {"a": 4, "b": 6}
SHAPES = {
    "stem": ((5,), (None,)),
    "a.weight": ((4, 3), ("a", None)),
    "b.weight": ((6, 4, 2), ("b", "a", None)),
    "b.running_mean": ((6,), ("b",)),
    "b.running_var": ((6,), ("b",)),
    "head": ((3, 12), (None, "b")),  # two features a channel
}
PARAMETERS = frozenset(name for name in SHAPES if "running" not in name)
SPEC = UpdateSpec(
    {name: shape for name, (shape, _) in SHAPES.items()}, {name: axes for name, (_, axes) in SHAPES.items()}, SIZES,
    1, "run", 0, "0" * 64,
)  # fmt: skip


def mask_of(name, channels):
    """Which entries of a tensor lie between these channels, one entry after the other."""
    shape, axes = SHAPES[name]
    mask = np.zeros(shape, bool)
    for place in np.ndindex(shape):
        mask[place] = all(
            layer is None or place[i] // (shape[i] // SIZES[layer]) in set(channels[layer])
            for i, layer in enumerate(axes)
        )
    return mask


def random_state(rng):
    return ServerState(0, random_tensors(rng))


def random_tensors(rng):
    tensors = {name: rng.normal(size=shape).astype(np.float32) for name, (shape, _) in SHAPES.items()}
    return {name: np.abs(value) if name.endswith("var") else value for name, value in tensors.items()}


def random_update(rng, client, channels, steps=None, control=()):
    """An update that holds slices of random tensors: (update, the whole tensors, the whole control)."""
    whole = random_tensors(rng)
    change = {name: rng.normal(size=SHAPES[name][0]).astype(np.float32) for name in control}
    values, changes = (
        {name: each[mask_of(name, channels)].reshape(part_shape(name, channels)) for name, each in tensors.items()}
        for tensors in (whole, change)
    )
    examples = int(rng.integers(1, 300))
    steps = int(rng.integers(1, 60)) if steps is None else steps
    kept = {layer: np.array(each, np.uint16) for layer, each in channels.items()}
    update = Update("run", 0, "0" * 64, client, examples, steps, (examples,), kept, values, changes)
    return update, whole, change


def part_shape(name, channels):
    shape, axes = SHAPES[name]
    return [d if a is None else len(channels[a]) * (d // SIZES[a]) for d, a in zip(shape, axes, strict=True)]


def random_channels(rng, masked):
    """Some channels of each layer, or all of them."""
    if not masked:
        return {layer: list(range(size)) for layer, size in SIZES.items()}
    return {layer: sorted(rng.choice(size, size // 2, replace=False).tolist()) for layer, size in SIZES.items()}


def random_round(seed, masked, clients=3, **given):
    """(state, updates, whole tensors by client, masks by client and name, whole control by client)."""
    rng = np.random.default_rng(seed)
    state, updates, wholes, masks, controls = random_state(rng), [], [], [], []
    for client in range(clients):
        channels = random_channels(rng, masked)
        update, whole, control = random_update(rng, client, channels, **given)
        updates.append(update)
        wholes.append(whole)
        controls.append(control)
        masks.append({name: mask_of(name, channels) for name in SHAPES})
    return state, updates, wholes, masks, controls


def strategy(**given):
    return Strategy(PARAMETERS, given.pop("clients", 3), **given)
