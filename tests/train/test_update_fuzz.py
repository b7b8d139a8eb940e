"""Updates from strangers: mutated blobs by the ten thousand are refused with one line, or change what they say alone.

A blob is a header of JSON and flat tensors, so mutations know both: bytes, lengths, offsets, shapes, dtypes, metadata,
entries of the tensors. Everything is drawn from a seed.
"""

import json
import resource
import struct
import time
import tracemalloc

import numpy as np
import pytest

from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.formats.codec import CODECS
from fedgate.device_runtime.formats.slices import mask
from fedgate.device_runtime.formats.tensors import pack, tensors_hash, unpack
from fedgate.device_runtime.formats.update import Update, UpdateSpec, decode_update, encode_update
from fedgate.train.strategies import ServerState, Strategy, round_step

AXES = {
    "a.weight": ("a", None, None, None),
    "a.running_var": ("a",),
    "b.weight": ("b", "a", None, None),
    "head.weight": (None, "b"),
    "head.bias": (None,),
}
SHAPES = {"a.weight": (6, 1, 3, 3), "a.running_var": (6,), "b.weight": (4, 6, 3, 3), "head.weight": (3, 16)}
SHAPES |= {"head.bias": (3,)}
BASE = {name: np.random.default_rng(0).random(shape, np.float32) for name, shape in SHAPES.items()}
SPEC = UpdateSpec(SHAPES, AXES, {"a": 6, "b": 4}, 2, "run", 3, tensors_hash(BASE))
STRATEGY = Strategy(frozenset(name for name in SHAPES if "running" not in name), clients=2)
CHANNELS = {"a": np.array([0, 2, 5], np.uint16), "b": np.array([1, 3], np.uint16)}


def blob_of(codec):
    values = SPEC.take({name: value * np.float32(0.9) for name, value in BASE.items()}, CHANNELS)
    opened = {layer: np.full((2, c), 7, np.uint32) for layer, c in SPEC.channels.items()}
    strength = {layer: np.ones((2, c), np.float32) for layer, c in SPEC.channels.items()}
    update = Update("run", 3, SPEC.base_hash, 1, 50, 8, (9, 300), CHANNELS, values, {}, opened, strength, codec, (0, 1))
    return encode_update(update, SPEC, BASE)


BLOBS = [blob_of(codec) for codec in CODECS]
NUMBERS = [0, 1, -1, 2, 6, 7, 127, -128, 255, 2**16 - 1, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1, 2**64, 10**30, 0.5]
THINGS = [
    *NUMBERS,
    None,
    True,
    "",
    "F64",
    "U64",
    "BF16",
    [],
    {},
    [1],
    [2**40, 2**40],
    [-1],
    "x" * 300,
    "fp16",
    "int8",
    "int4",
]
SPECIAL = [np.nan, np.inf, -np.inf, -1.0, 0.0, 65504.0, 3e38, -3e38]


def pick(rng, items):
    return items[int(rng.integers(len(items)))]


def bytes_changed(blob, rng):
    data = bytearray(blob)
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(len(data)))
        data[at] = pick(rng, [data[at] ^ (1 << int(rng.integers(8))), int(rng.integers(256)), 0, 255])
    return bytes(data)


def cut_or_grown(blob, rng):
    a, b = sorted(int(i) for i in rng.integers(0, len(blob) + 1, 2))
    extra = rng.integers(0, 256, int(rng.integers(1, 40)), np.uint8).tobytes()
    return pick(rng, [blob[:a], blob[a:], blob[:a] + blob[b:], blob[:a] + extra + blob[a:], blob + extra, b""])


def header_changed(blob, rng):
    """One place of the header's JSON replaced, its length too if it changes."""
    (length,) = struct.unpack_from("<Q", blob)
    header = json.loads(blob[8 : 8 + length])
    name = pick(rng, [key for key in header if key != "__metadata__"])
    kind = int(rng.integers(6))
    if kind == 0:
        header[name][pick(rng, ["dtype", "shape", "data_offsets"])] = pick(rng, THINGS)
    elif kind == 1:
        header[name]["data_offsets"][int(rng.integers(2))] = pick(rng, NUMBERS)
    elif kind == 2:
        header[name]["shape"] = [pick(rng, NUMBERS) for _ in range(int(rng.integers(4)))]
    elif kind == 3:
        header[pick(rng, ["values", "extra", "scales", "counts"])] = header.pop(name)
    elif kind == 4:
        header["__metadata__"] = pick(rng, [None, {}, {"fedgate": pick(rng, THINGS)}, {"other": "x"}])
    else:
        header[f"tensor{rng.integers(9)}"] = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
    text = json.dumps(header).encode()
    size = pick(rng, [len(text), len(text), len(text), pick(rng, [0, 1, 2**14, 2**31, 2**62, 2**64 - 1])])
    return struct.pack("<Q", size) + text + blob[8 + length :]


def meta_changed(blob, rng):
    tensors, meta = unpack(blob)
    key = pick(rng, sorted(meta))
    value = pick(rng, THINGS)
    if key in ("samples", "levels"):
        value = pick(
            rng, [value, [pick(rng, THINGS) for _ in range(int(rng.integers(4)))], [9, 0], [0, 300], [1], [1, 0]]
        )
    return pack(tensors, meta | {key: value})


@np.errstate(over="ignore", invalid="ignore")
def tensor_changed(blob, rng):
    """Entries of a tensor, its length or its type; for each a whole file, so that only the update's own checks help."""
    tensors, meta = unpack(blob)
    name = pick(rng, sorted(tensors))
    tensor = tensors[name].copy()
    kind = int(rng.integers(5))
    if kind == 0 and tensor.dtype.kind == "f" and tensor.size:
        tensor[rng.integers(tensor.size)] = pick(rng, SPECIAL)
    elif kind <= 2 and tensor.size:
        raw = tensor.view(np.uint8)
        raw[rng.integers(raw.size)] = rng.integers(256)
    elif kind == 3:
        tensor = np.resize(tensor, pick(rng, [0, 1, tensor.size - 1, tensor.size + 1, 2 * tensor.size, 300]))
    else:
        tensor = tensor.astype(pick(rng, ["<f4", "<f2", "<f8", "<u2", "<u4", "i1", "u1", "<i8"]))
    if rng.integers(4) == 0 and name in ("channels", "counts"):
        other = "counts" if name == "channels" else "channels"
        tensors = tensors | {other: rng.integers(0, 7, tensors[other].size).astype(tensors[other].dtype)}
    return pack(tensors | {name: tensor}, meta)


MUTATIONS = (bytes_changed, cut_or_grown, header_changed, meta_changed, *[tensor_changed] * 4)


def mutants(count, seed):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        blob = pick(rng, BLOBS)
        for _ in range(int(rng.integers(1, 3))):
            try:
                blob = pick(rng, MUTATIONS)(blob, rng)
            except (FedgateError, ValueError, KeyError, TypeError, IndexError, struct.error, RecursionError):
                continue  # what is broken already cannot be changed at will
        yield blob


def check(blob):
    """Decode, and look at what an accepted update does to the server's weights; returns whether it was accepted."""
    try:
        update = decode_update(blob, SPEC, BASE)
    except FedgateError as error:
        assert str(error).isprintable() and 0 < len(str(error)) < 1000
        return False
    assert (update.run, update.base_round, update.base_hash) == (SPEC.run, SPEC.base_round, SPEC.base_hash)
    assert update.examples > 0 or update.client == -1
    for layer, kept in update.channels.items():
        assert kept.tolist() == sorted(set(kept.tolist())) and all(c < SPEC.channels[layer] for c in kept.tolist())
    written = {name: value.copy() for name, value in BASE.items()}
    SPEC.put(written, update.channels, update.values)
    after = aggregated(update) if update.client >= 0 else {}
    for name, base in BASE.items():
        inside = mask(SHAPES[name], AXES[name], update.channels, SPEC.channels)
        assert np.isfinite(written[name]).all() and (not name.endswith("var") or (written[name] >= 0).all())
        for changed in (written[name], after.get(name, base)):
            assert (changed[~inside] == base[~inside]).all()
    return True


def aggregated(update):
    """The server's weights after a round with this update alone."""
    return round_step(ServerState(3, BASE), [update], STRATEGY, SPEC, BASE)[0].tensors


def test_the_blobs_themselves_are_accepted():
    assert all(map(check, BLOBS))


@pytest.mark.parametrize(("count", "seed"), [(4000, 1), pytest.param(100_000, 2, marks=pytest.mark.slow)])
def test_mutated_updates(count, seed):
    accepted, longest, before = 0, 0.0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for blob in mutants(count, seed):
        started = time.process_time()
        accepted += check(blob)
        longest = max(longest, time.process_time() - started)
    assert 0.02 * count < accepted < 0.7 * count  # some change nothing that can be told, or a weight where it may
    assert longest < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB


def test_no_mutant_takes_more_memory_than_a_few_updates():
    tracemalloc.start()
    try:
        for blob in mutants(400, 3):
            tracemalloc.reset_peak()
            held, _ = tracemalloc.get_traced_memory()
            check(blob)
            assert tracemalloc.get_traced_memory()[1] - held < 2**20
    finally:
        tracemalloc.stop()
