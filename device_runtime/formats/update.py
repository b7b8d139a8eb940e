"""What travels between client and server, version 2: one safetensors blob, in process, over a network or as a file.

Metadata: {"format": "fedgate-update", "version": 2, "run": text, "base_round": int, "base_hash": `tensors_hash` of the
weights it started from (of a download: of the weights that its receiver then has), "client": int (-1: the server; the
blob is a download), "examples": int, "local_steps": int, "codec": a name of `codec_table`, "samples": [int by level],
"levels": [int], the levels it trained, increasing (of a download: all)}.

Tensors, with L gated layers in the order of their sorted names and K_l kept channels of the C_l of layer l:
    "counts"    uint32 (L,)          K_l
    "channels"  uint16 (sum K_l,)    the kept channels of each layer, strictly increasing, one layer after the other
    "values"    by codec             the slices (see `slices`) of every parameter between kept channels, in the order of
                                     the sorted names, less those of the norms of a level that was not trained; then of
                                     "control/PARAMETER" for each parameter with a control variate. `codec_table` says
                                     how they are written, and of "scales" and "vectors" beside "values". Weights are
                                     differences to the base, but in fp32; a change of a control variate is none.
    "opened"    uint8, 16 or 32      (R, C_l) of each layer, row-major, one layer after the other; R: the levels whose
                                     "samples" are not 0; the smallest type that holds the largest of "samples"
    "strength"  float32 or float16   of the same shape: sums in fp32, in other codecs means over the samples
So every length follows from the receiver's `UpdateSpec`, the metadata and "counts". Nothing in a blob is used before
all of it was checked.
"""

import numpy as np

from ..errors import FedgateError
from .checks import Fields
from .codec import CODECS, count, decode_slices, encode_slices, joined, split, tensor_lengths
from .tensors import pack, tensors_hash, unpack
from .update_spec import CONTROL, SERVER, Update, UpdateSpec

FORMAT = "fedgate-update"
VERSION = 2
MOST = 2**31 - 1
MOST_HEADER = 2**14  # bytes of JSON; a handful of tensors and the metadata need under 2,000


def encode_update(update: Update, spec: UpdateSpec, base: dict | None = None, seed=0) -> bytes:
    """The blob of an update; `len` of it is the number of bytes sent.

    base: the tensors that both sides hold, by name, which codecs other than fp32 need; seed: of stochastic rounding.
    """
    shapes = spec.slices(update.channels, update.levels)
    named = update.values | {CONTROL + name: value for name, value in update.control.items()}
    slices = encode_slices(
        update.codec, {name: named[name] for name in shapes}, _base_slices(spec, update.channels, shapes, base), seed
    )
    layers = sorted(spec.channels)
    rows = [i for i, n in enumerate(update.samples) if n]
    samples = np.array(update.samples, np.int64)[rows, None]
    strength = [update.strength[layer][rows] / (1 if update.codec == "fp32" else samples) for layer in layers]
    tensors = {
        "counts": np.array([len(update.channels[layer]) for layer in layers], np.uint32),
        "channels": joined([update.channels[layer] for layer in layers], np.uint16),
        "opened": joined([update.opened[layer][rows] for layer in layers], _opened_dtype(update.samples)),
        "strength": joined(strength, _strength_dtype(update.codec)),
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
        "levels": list(update.levels),
    }
    return pack(slices | tensors, meta)


def decode_update(blob: bytes, spec: UpdateSpec, base: dict | None = None) -> Update:
    """Check a blob against `spec` and return it. Raises `FedgateError` with the reason why it is refused.

    base: the tensors, by name, to which codecs other than fp32 hold differences; without it they are refused.
    """
    tensors, meta = _unpack(blob, spec)
    fields = _meta(Fields(meta, "the update"), spec)
    codec, samples = fields["codec"], np.array(fields["samples"], np.int64)
    if base is None and codec != "fp32":
        raise FedgateError(f"the update's codec is {codec}, and there is no base to add its differences to")
    channels = _channels(tensors, spec)
    shapes = spec.slices(channels, fields["levels"])
    rows = np.flatnonzero(samples)
    salience = {layer: (len(rows), spec.channels[layer]) for layer in sorted(spec.channels)}
    entries = sum(map(count, salience.values()))
    lengths = tensor_lengths(codec, shapes)
    expected = lengths | {
        "opened": (_opened_dtype(fields["samples"]), entries),
        "strength": (_strength_dtype(codec), entries),
    }
    for name in sorted({"counts", "channels", *expected} ^ tensors.keys()):
        raise FedgateError(f"the update {'has an unknown' if name in tensors else 'lacks'} tensor {name!r}")
    flat = {name: _tensor(tensors, name, dtype, length) for name, (dtype, length) in expected.items()}
    slices = {name: flat[name] for name in lengths}
    values = decode_slices(codec, slices, shapes, _base_slices(spec, channels, shapes, base))
    opened, strength = {}, {}
    each = samples[rows, None]
    for layer, part in split(flat["opened"], salience).items():
        if (part > each).any():
            raise FedgateError(f"the update opened channels of '{layer}' more often than it had samples")
        opened[layer] = np.zeros((spec.levels, spec.channels[layer]), np.uint32)
        opened[layer][rows] = part
    for layer, part in split(flat["strength"], salience).items():
        if part.min(initial=0) < 0:
            raise FedgateError(f"the update's salience strength of '{layer}' is negative")
        strength[layer] = np.zeros((spec.levels, spec.channels[layer]), np.float32)
        strength[layer][rows] = part if codec == "fp32" else part.astype(np.float32) * each
    return Update(
        **fields,
        channels=channels,
        values={name: value for name, value in values.items() if not name.startswith(CONTROL)},
        control={name: values[CONTROL + name] for name in spec.control},
        opened=opened,
        strength=strength,
    )


def apply_download(blob: bytes, spec: UpdateSpec, held: dict[str, np.ndarray] | None) -> dict[str, np.ndarray]:
    """The weights that a client has after a download ("control/PARAMETER" among them); `held` is left as it was.

    held: the weights that it had, None for none. Raises `FedgateError` for a blob that is damaged, or was made for
    somebody who held others.
    """
    update = decode_update(blob, spec, held)
    parts = update.values | {CONTROL + name: part for name, part in update.control.items()}
    if held is None:
        whole = {name: np.zeros(spec.shape(name), np.float32) for name in parts}
    else:
        whole = {name: np.array(held[name]) for name in parts}
    spec.put(whole, update.channels, parts)
    if tensors_hash(whole) != spec.base_hash:
        raise FedgateError("the download does not fit the weights that are held: ask for all of them")
    return whole


def _base_slices(spec, channels, shapes, base):
    """What differences refer to: the base's slices of all that is sent and has a base."""
    return spec.take({name: base[name] for name in shapes if name in base}, channels) if base else {}


def _opened_dtype(samples):
    return np.min_scalar_type(max(samples))


def _strength_dtype(codec):
    return np.dtype("f4" if codec == "fp32" else "f2")


def _unpack(blob, spec):
    """The tensors and the metadata of a blob whose sizes are plausible: a stranger's is not parsed before that."""
    room = MOST_HEADER + spec.most_bytes
    if len(blob) > room:
        raise FedgateError(f"the update has {len(blob)} bytes, and one for this network at most {room}")
    return unpack(blob, "the update", MOST_HEADER)


def _channels(tensors, spec):
    """The kept channels by layer, checked."""
    layers = sorted(spec.channels)
    counts = _tensor(tensors, "counts", np.uint32, len(layers)).astype(np.int64)
    for layer, kept in zip(layers, counts, strict=True):
        if kept > spec.channels[layer]:
            raise FedgateError(f"the update keeps {kept} channels of '{layer}', which has {spec.channels[layer]}")
    flat = _tensor(tensors, "channels", np.uint16, int(counts.sum()))
    channels = split(flat, dict(zip(layers, ((kept,) for kept in counts.tolist()), strict=True)))
    for layer, kept in channels.items():
        if (kept[1:] <= kept[:-1]).any():
            raise FedgateError(f"the update's channels of '{layer}' are not sorted, or one is there twice")
        if len(kept) and kept[-1] >= spec.channels[layer]:
            raise FedgateError(f"the update keeps channel {kept[-1]} of '{layer}', which has {spec.channels[layer]}")
    return channels


def _tensor(tensors, name, dtype, length):
    """A flat tensor of the blob: there, of this dtype and length, finite."""
    if name not in tensors:
        raise FedgateError(f"the update lacks tensor {name!r}")
    tensor, dtype = tensors[name], np.dtype(dtype)
    if tensor.dtype != dtype or tensor.shape != (length,):
        raise FedgateError(f"the update's {name!r} is {tensor.dtype} {list(tensor.shape)}, not {dtype} [{length}]")
    if dtype.kind == "f" and not np.isfinite(tensor).all():
        raise FedgateError(f"the update's {name!r} holds values that are not finite")
    return tensor


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
    levels = fields.wholes("levels", (0, spec.levels), 0, spec.levels - 1)
    if list(levels) != sorted(set(levels)) or (client == SERVER and len(levels) != spec.levels):
        fields.refuse("levels", "an increasing list, of the server a whole one")
    samples = fields.wholes("samples", (spec.levels, spec.levels), 0, MOST)
    if any(n and i not in levels for i, n in enumerate(samples)):
        fields.refuse("samples", "0 at levels that were not trained")
    return {
        **found,
        "client": client,
        # only the server has no data of its own, and makes no step
        "examples": fields.whole("examples", 0 if client == SERVER else 1, MOST),
        "local_steps": fields.whole("local_steps", 0 if client == SERVER else 1, MOST),
        "codec": fields.choice("codec", CODECS),
        "levels": levels,
        "samples": samples,
    }
