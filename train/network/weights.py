"""Weights from elsewhere: a state dict in fedgate's names, a plain network's, torchvision's or the usual CIFAR ones.

Each tensor of a file belongs to a layer (a convolution or linear layer) or to the norm behind one. So a network without
gates gives its weights to one with gates, and one of a single density to one of several: every level starts from the
norm that the file has, or from that of the same level where it has as many.
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.torch
import torch

from fedgate.device_runtime.errors import FedgateError, UsageError
from fedgate.device_runtime.storage import read_file
from fedgate.device_runtime.text import name_some, printable

PICKLED = (".pth", ".pt", ".th", ".bin")
# Names of others' residual networks in ours: torchvision's, and those of most CIFAR repositories.
RENAMED = (
    (r"module\.(.*)", r"\1"),
    (r"conv1\.(.*)", r"stem.0.\1"),
    (r"bn1\.(.*)", r"stem.1.\1"),
    (r"layer(\d+)\.(\d+)\.conv(\d)\.(.*)", lambda m: f"stages.{int(m[1]) - 1}.{m[2]}.conv{m[3]}.{m[4]}"),
    (r"layer(\d+)\.(\d+)\.bn(\d)\.(.*)", lambda m: f"stages.{int(m[1]) - 1}.{m[2]}.norm{m[3]}.{m[4]}"),
    (
        r"layer(\d+)\.(\d+)\.(?:downsample|shortcut)\.(\d)\.(.*)",
        lambda m: f"stages.{int(m[1]) - 1}.{m[2]}.shortcut.{m[3]}.{m[4]}",
    ),
    (r"(?:fc|linear|classifier)\.(weight|bias)", r"head.\1"),
)
STEPS = "num_batches_tracked"  # of a norm; a run counts rounds


class Start(NamedTuple):
    """tensors: by the network's own names, all of them, or None for its initial ones. notes: what is not the file's."""

    tensors: dict[str, np.ndarray] | None
    notes: tuple[str, ...]


def read_weights(path) -> dict[str, np.ndarray]:
    """The tensors of a .safetensors file, or of a .pth, of which nothing but tensors is unpickled; float32 by name.

    Raises `FedgateError` for a file that is damaged or holds something else.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        try:
            found = safetensors.torch.load(read_file(path))
        except (safetensors.SafetensorError, ValueError, TypeError, KeyError, RuntimeError) as error:
            raise FedgateError(f"{path} is no safetensors file: {printable(str(error)[:300])}") from error
    elif path.suffix in PICKLED:
        found = unpickled(path)
    else:
        raise UsageError(f"{path} is no file of weights: give .safetensors, or {', '.join(PICKLED)}")
    return {name: value.float().numpy() for name, value in found.items() if not name.endswith(STEPS)}


def unpickled(path):
    """A state dict of torch.save, also one that lies in a checkpoint under "state_dict" or "model"."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise FedgateError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # what it raises depends on what is wrong
        raise FedgateError(f"{path} holds no tensors that can be read without running code") from error
    for key in ("state_dict", "model"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise FedgateError(f"{path} holds no state dict: tensors by name")
    return {str(name): value for name, value in found.items()}


class Place(NamedTuple):
    """What a tensor is: of which layer (None: of none), which part of it, and of which level's norm (None: of any)."""

    layer: str | None
    part: str
    level: int | None = None


def fitted(network, weights, file="the file") -> Start:
    """What a network starts from, given the tensors of a file; `file` is its name, in errors and notes.

    A head for other classes starts anew, and so do gates that the file does not have. Raises `UsageError` that names
    what is missing, misshapen, not finite or left over.
    """
    state = {key: value.numpy().copy() for key, value in network.body.state_dict().items()}
    given = {place_of(network, renamed(name)): (name, value) for name, value in weights.items()}
    anew = other_head(network, given, state)
    made, missing, used = {}, [], set()
    for key, right in state.items():
        place = source_of(place_of(network, key), given, len(network.densities))
        if place is None:
            missing.append(key)
            continue
        used.add(place)
        name, value = given[place]
        if place.layer == anew and anew is not None:
            continue
        if value.shape != right.shape:
            raise misfit(file, f"'{name}' is {list(value.shape)}, and here {list(right.shape)}")
        if not np.isfinite(value).all():
            raise UsageError(f"{file}: '{name}' holds values that are not finite")
        made[key] = value
    gates = {key.partition(".gate.")[0] for key in missing if ".gate." in key}
    if lacking := [key for key in missing if ".gate." not in key]:
        raise misfit(file, f"it lacks {name_some(lacking)}")
    if left := [name for place, (name, _) in given.items() if place not in used and not replaced(network, place)]:
        raise misfit(file, f"it also has {name_some(left)}")
    notes = [f"{file} has no gates for {len(gates)} layers: those start anew"] if gates else []
    if anew is not None:
        notes.append(f"{file} has a head for other classes: one for {len(state[f'{anew}.weight'])} starts anew")
    return Start(state | made, tuple(notes))


def misfit(file, text):
    return UsageError(f"{file} holds the weights of another network: {text}")


def renamed(name):
    """A name of others as a plain network of ours has it; any other as it is."""
    for pattern, ours in RENAMED:
        if match := re.fullmatch(pattern, name):
            name = match.expand(ours) if isinstance(ours, str) else ours(match)
    return name


def place_of(network, name) -> Place:
    """What a tensor of a state dict is, of a gated network or of the plain one that it was made of."""
    owner, _, part = name.rpartition(".")
    if owner in network.plain_norms:
        return Place(network.plain_norms[owner], f"norm.{part}")
    for layer in (layer.name for layer in network.layers):
        if not name.startswith(f"{layer}."):
            continue
        rest = name.removeprefix(f"{layer}.")
        if match := re.fullmatch(r"norms\.(\d+)\.(\w+)", rest):
            return Place(layer, f"norm.{match[2]}", int(match[1]))
        return Place(layer, rest.removeprefix("conv."))
    return Place(None, name)


def source_of(place, given, levels):
    """The place of a file's tensor from which one of a network with so many levels starts; None where it has none."""
    if place.level is None:
        return place if place in given else None
    there = sorted((each for each in given if each[:2] == place[:2]), key=lambda each: each.level or 0)
    return place if place in given and len(there) == levels else there[-1] if there else None


def other_head(network, given, state):
    """The name of the last layer where the file has it for another number of classes; else None."""
    last = network.layers[-1].name
    _, value = given.get(Place(last, "weight"), (None, None))
    right = state.get(f"{last}.weight")
    if value is None or right is None or value.shape == right.shape:
        return None
    return last if value.shape[1:] == right.shape[1:] else None


def replaced(network, place):
    """Whether a tensor has no use: other levels' norms, gates where none are, a scale where FBS gates stand for it."""
    unit = network.units.get(place.layer)
    if unit is None:
        return False
    idle = place.level is not None or (place.part == "norm.weight" and network.gate == "fbs")
    return place.part.startswith("gate.") or (idle and len(unit.norms) > 0)
