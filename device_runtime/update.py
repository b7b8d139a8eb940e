"""What travels between client and server, version 1: one safetensors blob, in process, over a network or as a file.

Metadata: {"format": "fedgate-update", "version": 1, "run": text, "base_round": int, "base_hash": `tensors_hash` of the
weights it started from, "client": int (-1: the server; the blob is a download), "examples": int, "local_steps": int,
"codec": "fp32", "samples": [int by level]}. Tensors: "values/PARAMETER" float32, "salience/opened/LAYER" uint32 and
"salience/strength/LAYER" float32, both (levels, C_out). Nothing in a blob is used before all of it was checked.
"""

from dataclasses import dataclass, field

import numpy as np

from .checks import Fields
from .errors import FedgateError
from .tensors import pack, unpack

FORMAT = "fedgate-update"
VERSION = 1
SERVER = -1
MOST = 2**31 - 1


@dataclass(frozen=True)
class Update:
    """A client's result of one round, or (client -1) the server's weights at its start.

    `samples[i]` counts the samples seen at level i; `opened[layer]` uint32 and `strength[layer]` float32, both
    (levels, C_out), count how often and sum how strongly each channel was opened by them.
    """

    run: str
    base_round: int
    base_hash: str
    client: int
    examples: int
    local_steps: int
    samples: tuple[int, ...]
    values: dict[str, np.ndarray]
    opened: dict[str, np.ndarray] = field(default_factory=dict)
    strength: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class UpdateSpec:
    """What a receiver expects: shapes by parameter, C_out by gated layer, number of levels, and the base."""

    parameters: dict[str, tuple[int, ...]]
    channels: dict[str, int]
    levels: int
    run: str
    base_round: int
    base_hash: str

    def tensors(self) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
        """Name in the blob -> (dtype, shape)."""
        expected = {f"values/{name}": (np.dtype("f4"), tuple(s)) for name, s in self.parameters.items()}
        for layer, channels in self.channels.items():
            expected[f"salience/opened/{layer}"] = (np.dtype("u4"), (self.levels, channels))
            expected[f"salience/strength/{layer}"] = (np.dtype("f4"), (self.levels, channels))
        return expected


def encode_update(update: Update) -> bytes:
    """The blob of an update; `len` of it is the number of bytes sent."""
    tensors = {f"values/{name}": np.asarray(v, np.float32) for name, v in update.values.items()}
    for layer in update.opened:
        tensors[f"salience/opened/{layer}"] = np.asarray(update.opened[layer], np.uint32)
        tensors[f"salience/strength/{layer}"] = np.asarray(update.strength[layer], np.float32)
    meta = {
        "format": FORMAT,
        "version": VERSION,
        "run": update.run,
        "base_round": update.base_round,
        "base_hash": update.base_hash,
        "client": update.client,
        "examples": update.examples,
        "local_steps": update.local_steps,
        "codec": "fp32",
        "samples": list(update.samples),
    }
    return pack(tensors, meta)


def decode_update(blob: bytes, spec: UpdateSpec) -> Update:
    """Check a blob against `spec` and return it. Raises `FedgateError` with the reason why it is refused."""
    expected = spec.tensors()
    # The header is bounded too: a stranger's blob should not be parsed before its size is plausible.
    size = sum(dtype.itemsize * int(np.prod(shape, dtype=np.int64)) for dtype, shape in expected.values())
    room = size + 2**20 + sum(256 + 6 * len(name) for name in expected)
    if len(blob) > room:
        raise FedgateError(f"the update has {len(blob)} bytes, and one for this network at most {room}")
    tensors, meta = unpack(blob, "the update")
    update_fields = _meta(Fields(meta, "the update"), spec)
    for name in sorted(expected.keys() ^ tensors.keys()):
        raise FedgateError(f"the update {'lacks' if name in expected else 'has an unknown'} tensor {name!r}")
    for name, (dtype, shape) in expected.items():
        tensor = tensors[name]
        if tensor.dtype != dtype or tensor.shape != shape:
            raise FedgateError(
                f"the update's {name!r} is {tensor.dtype} {list(tensor.shape)}, not {dtype} {list(shape)}"
            )
        if dtype.kind == "f" and not np.isfinite(tensor).all():
            raise FedgateError(f"the update's {name!r} holds values that are not finite")
    update = Update(
        **update_fields,
        values={name: tensors[f"values/{name}"] for name in spec.parameters},
        opened={layer: tensors[f"salience/opened/{layer}"] for layer in spec.channels},
        strength={layer: tensors[f"salience/strength/{layer}"] for layer in spec.channels},
    )
    samples = np.array(update.samples, dtype=np.int64)[:, None]
    for layer in spec.channels:
        if (update.opened[layer] > samples).any():
            raise FedgateError(f"the update opened channels of '{layer}' more often than it had samples")
        if (update.strength[layer] < 0).any():
            raise FedgateError(f"the update's salience strength of '{layer}' is negative")
    return update


def _meta(fields: Fields, spec: UpdateSpec) -> dict:
    if fields.get("format") != FORMAT:
        fields.refuse("format", f"'{FORMAT}'")
    fields.whole("version", VERSION, VERSION)
    fields.choice("codec", ("fp32",))
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
        "samples": fields.wholes("samples", (spec.levels, spec.levels), 0, MOST),
    }
