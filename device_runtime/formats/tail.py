"""tail.safetensors of a bundle: the tail as `train` holds it, and what the receiver of an update to it expects.

Tensors: all of the tail's layers, under train's names, float32: weights, gates, norms of every level and their running
statistics. Metadata: {"format": "fedgate-tail", "version": 1, "run": text, "base_round": int, "base_hash": SHA-256,
"levels": int, "parameters": {name: shape}, "axes": {name: [gated layer or null, ...]}, "channels": {gated layer: C},
"level_of": {name: level}, "control": [name, ...]}, from "run" on the fields of an `UpdateSpec`. The running statistics
are among the tensors, but not among the parameters: they stay as they are and never travel.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import FedgateError
from .checks import Fields, is_text, is_whole
from .macs import gated
from .manifest import Manifest
from .ports import parameters
from .tensors import pack, unpack
from .update import MOST
from .update_spec import UpdateSpec

FORMAT, VERSION = "fedgate-tail", 1


@dataclass(frozen=True)
class Tail:
    """The tail's tensors by name, float32, treat them as read-only; and the spec of updates to them."""

    tensors: dict[str, np.ndarray]
    spec: UpdateSpec


def pack_tail(tail: Tail) -> bytes:
    """The bytes of tail.safetensors."""
    spec = tail.spec
    meta = {
        "format": FORMAT,
        "version": VERSION,
        "run": spec.run,
        "base_round": spec.base_round,
        "base_hash": spec.base_hash,
        "levels": spec.levels,
        "parameters": {name: list(shape) for name, shape in spec.parameters.items()},
        "axes": {name: list(spec.axes[name]) for name in spec.parameters},
        "channels": spec.channels,
        "level_of": spec.level_of,
        "control": list(spec.control),
    }
    return pack(tail.tensors, meta)


def load_tail(data: bytes, path: Path, manifest: Manifest) -> Tail:
    """Check the bytes of a tail file, which `path` names in errors. Raises `FedgateError` for what does not fit."""
    tensors, meta = unpack(data, str(path))
    where = f"{path}: the metadata"
    fields = Fields(meta, where)
    if fields.get("format") != FORMAT or fields.get("version") != VERSION:
        raise FedgateError(f"{path} is not a {FORMAT} of version {VERSION}")
    for name, tensor in tensors.items():
        if tensor.dtype != np.float32 or not np.isfinite(tensor).all():
            raise FedgateError(f"{path}: {name!r} is not finite float32")
    spec = _spec(fields, tensors, manifest)
    for program in manifest.programs:
        if program.role in ("tail", "train", "train-module"):
            for port in parameters(program):
                if spec.parameters.get(port.name) != port.shape:
                    raise FedgateError(f"{path} has no parameter {port.name!r} of {list(port.shape)} ({program.file})")
    return Tail(tensors, spec)


def _spec(fields: Fields, tensors: dict, manifest: Manifest) -> UpdateSpec:
    channels = {layer.name: layer.out_channels for layer in gated(manifest.layers)}
    if fields.get("channels") != channels:
        fields.refuse("channels", "those of the manifest's gated layers")
    levels = len(manifest.densities)
    shapes, axes, level_of = (_object(fields, key) for key in ("parameters", "axes", "level_of"))
    for name, shape in shapes.items():
        if name not in tensors or shape != list(tensors[name].shape):
            fields.refuse("parameters", "tensors of the file, with their shapes")
    if axes.keys() != shapes.keys() or not all(_axes_fit(axes[name], shapes[name], channels) for name in shapes):
        fields.refuse("axes", "gated layers or null, one for each dimension of each parameter")
    if not level_of.keys() <= shapes.keys() or not all(is_whole(level, 0, levels - 1) for level in level_of.values()):
        fields.refuse("level_of", "levels of parameters")
    control = fields.items("control", 0, len(shapes))
    if not all(is_text(name) and name in shapes for name in control) or len(set(control)) != len(control):
        fields.refuse("control", "parameters, each once")
    return UpdateSpec(
        parameters={name: tuple(shape) for name, shape in shapes.items()},
        axes={name: tuple(axes[name]) for name in shapes},
        channels=channels,
        levels=fields.whole("levels", levels, levels),
        run=fields.text("run"),
        base_round=fields.whole("base_round", 0, MOST),
        base_hash=fields.sha256("base_hash"),
        level_of=level_of,
        control=tuple(control),
    )


def _object(fields: Fields, key: str) -> dict:
    value = fields.get(key)
    if not isinstance(value, dict) or not all(is_text(name, 1000) for name in value):
        fields.refuse(key, "an object with names")
    return value


def _axes_fit(axes, shape, channels) -> bool:
    return (
        isinstance(axes, list)
        and len(axes) == len(shape)
        and all(
            axis is None or (isinstance(axis, str) and axis in channels and size % channels[axis] == 0)
            for axis, size in zip(axes, shape, strict=True)
        )
    )
