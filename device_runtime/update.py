"""What travels between client and server, version 2: one safetensors blob, in process, over a network or as a file.

Metadata: {"format": "fedgate-update", "version": 2, "run": text, "base_round": int, "base_hash": `tensors_hash` of the
weights it started from, "client": int (-1: the server; the blob is a download), "examples": int, "local_steps": int,
"codec": "fp32", "samples": [int by level]}.

Tensors, L gated layers in the order of their sorted names, K_l kept channels of layer l of C_l:
    "counts"    uint32 (L,)           K_l
    "channels"  uint16 (sum of K_l,)  the kept channels of each layer, strictly increasing, one layer after the other
    "values"    float32               the slices (see `slices`) of every parameter between kept channels, row-major, in
                                      the order of the sorted names, one after the other; and in the same way the
                                      slices of "control/PARAMETER" for each parameter that has a control variate
    "opened"    uint32                (levels, C_l) of each layer, row-major, one layer after the other
    "strength"  float32               the same
So every length follows from the receiver's `UpdateSpec` and "counts". Nothing in a blob is used before all of it was
checked.
"""

import struct
from dataclasses import dataclass, field

import numpy as np

from .checks import Fields
from .errors import FedgateError
from .slices import Axes, slice_shape, take
from .tensors import pack, unpack

FORMAT = "fedgate-update"
VERSION = 2
SERVER = -1
MOST = 2**31 - 1
MOST_HEADER = 2**14  # bytes of JSON; a handful of tensors and the metadata need under 2,000
CONTROL = "control/"


@dataclass(frozen=True)
class Update:
    """A client's result of one round, or (client -1) the server's weights at its start.

    channels: by gated layer the channels between which `values` (float32, absolute weights) are sent, uint16, sorted.
    control: by parameter the same slice of the change of a client's control variate (SCAFFOLD), or of the server's
    control variate in a download; empty for other algorithms.
    `samples[i]` counts the samples seen at level i; `opened[layer]` uint32 and `strength[layer]` float32, both
    (levels, C), count how often and sum how strongly each channel was opened by them.
    """

    run: str
    base_round: int
    base_hash: str
    client: int
    examples: int
    local_steps: int
    samples: tuple[int, ...]
    channels: dict[str, np.ndarray]
    values: dict[str, np.ndarray]
    control: dict[str, np.ndarray] = field(default_factory=dict)
    opened: dict[str, np.ndarray] = field(default_factory=dict)
    strength: dict[str, np.ndarray] = field(default_factory=dict)
    codec: str = "fp32"


@dataclass(frozen=True)
class UpdateSpec:
    """What a receiver expects, by name: shapes and axes of parameters, C of gated layers; and the base.

    control: the parameters that have a control variate.
    """

    parameters: dict[str, tuple[int, ...]]
    axes: dict[str, Axes]
    channels: dict[str, int]
    levels: int
    run: str
    base_round: int
    base_hash: str
    control: tuple[str, ...] = ()

    def all_channels(self) -> dict[str, np.ndarray]:
        """Every channel of every gated layer: what a full update keeps."""
        return {layer: np.arange(c, dtype=np.uint16) for layer, c in self.channels.items()}

    def take(self, tensors: dict[str, np.ndarray], channels: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The slices of named tensors between kept channels."""
        return {name: take(value, self.axes[name], channels, self.channels) for name, value in tensors.items()}

    def slices(self, channels: dict[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
        """Name -> shape of each slice between kept channels, in the order in which they are sent."""
        names = [*sorted(self.parameters), *(CONTROL + name for name in sorted(self.control))]
        return {name: self._slice_shape(name.removeprefix(CONTROL), channels) for name in names}

    def _slice_shape(self, name, channels):
        return slice_shape(self.parameters[name], self.axes[name], channels, self.channels)


def encode_update(update: Update, spec: UpdateSpec) -> bytes:
    """The blob of an update; `len` of it is the number of bytes sent."""
    named = update.values | {CONTROL + name: value for name, value in update.control.items()}
    layers = sorted(spec.channels)
    tensors = {
        "counts": np.array([len(update.channels[layer]) for layer in layers], np.uint32),
        "channels": _flat([update.channels[layer] for layer in layers], np.uint16),
        "values": _flat([named[name] for name in spec.slices(update.channels)], np.float32),
        "opened": _flat([update.opened[layer] for layer in layers], np.uint32),
        "strength": _flat([update.strength[layer] for layer in layers], np.float32),
    }
    meta = {
        "format": FORMAT,
        "version": VERSION,
        "run": update.run,
        "base_round": update.base_round,
        "base_hash": update.base_hash,
        "client": update.client,
        "examples": update.examples,
        "local_steps": update.local_steps,
        "codec": update.codec,
        "samples": list(update.samples),
    }
    return pack(tensors, meta)


def decode_update(blob: bytes, spec: UpdateSpec) -> Update:
    """Check a blob against `spec` and return it. Raises `FedgateError` with the reason why it is refused."""
    tensors, meta = _unpack(blob, spec)
    fields = _meta(Fields(meta, "the update"), spec)
    channels = _channels(tensors, spec)
    shapes = spec.slices(channels)
    salience = {layer: (spec.levels, spec.channels[layer]) for layer in sorted(spec.channels)}
    flat = {"values": (np.float32, shapes), "opened": (np.uint32, salience), "strength": (np.float32, salience)}
    for name in sorted({"counts", "channels", *flat} ^ tensors.keys()):
        raise FedgateError(f"the update {'has an unknown' if name in tensors else 'lacks'} tensor {name!r}")
    parts = {name: _split(name, tensors[name], *expected) for name, expected in flat.items()}
    named = parts.pop("values")
    update = Update(
        **fields,
        channels=channels,
        values={name: named[name] for name in spec.parameters},
        control={name: named[CONTROL + name] for name in spec.control},
        **parts,
    )
    samples = np.array(update.samples, dtype=np.int64)[:, None]
    for layer in spec.channels:
        if (update.opened[layer] > samples).any():
            raise FedgateError(f"the update opened channels of '{layer}' more often than it had samples")
        if (update.strength[layer] < 0).any():
            raise FedgateError(f"the update's salience strength of '{layer}' is negative")
    return update


def _unpack(blob, spec):
    """The tensors and the metadata of a blob whose sizes are plausible: a stranger's is not parsed before that."""
    room = MOST_HEADER + 8 + 4 * sum(map(_count, spec.slices(spec.all_channels()).values()))
    room += len(spec.channels) * 4 + sum(spec.channels.values()) * (2 + 8 * spec.levels)
    if len(blob) > room:
        raise FedgateError(f"the update has {len(blob)} bytes, and one for this network at most {room}")
    if len(blob) >= 8 and struct.unpack_from("<Q", blob)[0] > MOST_HEADER:
        raise FedgateError(f"the update is not a fedgate tensor file: its header is longer than {MOST_HEADER} bytes")
    return unpack(blob, "the update")


def _channels(tensors, spec):
    """The kept channels by layer, checked."""
    layers = sorted(spec.channels)
    counts = _tensor(tensors, "counts", np.uint32, (len(layers),)).astype(np.int64)
    for layer, count in zip(layers, counts, strict=True):
        if count > spec.channels[layer]:
            raise FedgateError(f"the update keeps {count} channels of '{layer}', which has {spec.channels[layer]}")
    flat = _tensor(tensors, "channels", np.uint16, (int(counts.sum()),))
    channels = dict(zip(layers, np.split(flat, np.cumsum(counts)[:-1]), strict=True)) if layers else {}
    for layer, kept in channels.items():
        if (np.diff(kept.astype(np.int64)) <= 0).any():
            raise FedgateError(f"the update's channels of '{layer}' are not sorted, or one is there twice")
        if len(kept) and kept[-1] >= spec.channels[layer]:
            raise FedgateError(f"the update keeps channel {kept[-1]} of '{layer}', which has {spec.channels[layer]}")
    return channels


def _tensor(tensors, name, dtype, shape):
    """A tensor of the blob: there, of this dtype and shape, finite."""
    if name not in tensors:
        raise FedgateError(f"the update lacks tensor {name!r}")
    tensor, dtype = tensors[name], np.dtype(dtype)
    if tensor.dtype != dtype or tensor.shape != shape:
        raise FedgateError(f"the update's {name!r} is {tensor.dtype} {list(tensor.shape)}, not {dtype} {list(shape)}")
    if dtype.kind == "f" and not np.isfinite(tensor).all():
        raise FedgateError(f"the update's {name!r} holds values that are not finite")
    return tensor


def _split(name, tensor, dtype, shapes):
    """Cut a flat tensor into named parts of these shapes."""
    ends = np.cumsum([0, *map(_count, shapes.values())]).tolist()
    tensor = _tensor({name: tensor}, name, dtype, (ends[-1],))
    return {key: tensor[ends[i] : ends[i + 1]].reshape(shape) for i, (key, shape) in enumerate(shapes.items())}


def _flat(arrays, dtype):
    return np.concatenate([np.zeros(0, dtype), *(np.asarray(a, dtype).ravel() for a in arrays)])


def _count(shape):
    return int(np.prod(shape, dtype=np.int64))


def _meta(fields: Fields, spec: UpdateSpec) -> dict:
    if fields.get("format") != FORMAT:
        fields.refuse("format", f"'{FORMAT}'")
    fields.whole("version", VERSION, VERSION)
    client = fields.whole("client", SERVER, MOST)
    found = {
        "run": fields.text("run"),
        "base_round": fields.whole("base_round", 0, MOST),
        "base_hash": fields.sha256("base_hash"),
    }
    for key, value in found.items():
        if value != getattr(spec, key):
            raise FedgateError(f"the update's {key} is {value!r}, not {getattr(spec, key)!r}")
    return {
        **found,
        "client": client,
        # only the server has no data of its own
        "examples": fields.whole("examples", 0 if client == SERVER else 1, MOST),
        "local_steps": fields.whole("local_steps", 0, MOST),
        "codec": fields.choice("codec", ("fp32",)),
        "samples": fields.wholes("samples", (spec.levels, spec.levels), 0, MOST),
    }
