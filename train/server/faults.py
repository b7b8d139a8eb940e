"""Simulated faults: clients that vanish in a round, and clients that send garbage."""

import numpy as np

from fedgate.device_runtime.formats.tensors import pack, unpack

from ..draws import generator

KINDS = ("truncated", "flipped", "not finite", "of another run")


def fault(seed, round_index, client, drop_out, garbage):
    """What befalls a client in a round (0-based): "drop-out", "garbage" or None; the chances are of all clients."""
    draw = generator(seed, "fault", round_index, client).random()
    if draw < drop_out:
        return "drop-out"
    return "garbage" if draw < drop_out + garbage else None


def lasts(seed, round_index, client):
    """Which share of its work a client that vanishes has done by then."""
    return float(generator(seed, "drop-out", round_index, client).random())


def damage(blob, seed, round_index, client):
    """A damaged copy of an upload, in one of the ways of `KINDS`."""
    draws = generator(seed, "garbage", round_index, client)
    kind = KINDS[draws.integers(len(KINDS))]
    if kind == "truncated":
        return blob[: draws.integers(len(blob))]
    if kind == "flipped":  # many bits: some fall into the header, and no checksum is needed to see those
        flipped = np.frombuffer(blob, np.uint8).copy()
        flipped[draws.integers(0, len(blob), len(blob) // 64)] ^= 0x80
        flipped[draws.integers(0, 8)] ^= 0x80
        return flipped.tobytes()
    tensors, meta = unpack(blob)
    if kind == "of another run":
        return pack(tensors, meta | {"run": f"x{meta['run'][1:]}"})  # as a hexadecimal name never is
    name = max((name for name in tensors if tensors[name].dtype.kind == "f"), key=lambda name: tensors[name].size)
    broken = tensors[name].copy()
    broken.flat[draws.integers(broken.size)] = np.nan
    return pack(tensors | {name: broken}, meta)
