"""Updates: read back as sent, refused with a reason when anything differs from what the receiver expects."""

import json
import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutate import mutations

from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.formats.slices import take
from fedgate.device_runtime.formats.tensors import pack, tensors_hash, unpack
from fedgate.device_runtime.formats.update import Update, UpdateSpec, decode_update, encode_update


def linear(*shape):
    return np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)


# a and b are gated convolutions, b reads a; the head reads b behind a flatten of 2 x 2 positions
AXES = {
    "a.weight": ("a", None, None, None),
    "b.weight": ("b", "a", None, None),
    "b.bias": ("b",),
    "head.weight": (None, "b"),
    "head.bias": (None,),
}
WHOLE = {
    "a.weight": linear(6, 1, 3, 3),
    "b.weight": linear(4, 6, 3, 3),
    "b.bias": linear(4),
    "head.weight": linear(3, 16),
    "head.bias": linear(3),
}
SPEC = UpdateSpec(
    parameters={name: value.shape for name, value in WHOLE.items()},
    axes=AXES,
    channels={"a": 6, "b": 4},
    levels=2,
    run="digits-0",
    base_round=3,
    base_hash=tensors_hash(WHOLE),
    control=("b.weight",),
)
CHANNELS = {"a": np.array([0, 2, 5], np.uint16), "b": np.array([1, 3], np.uint16)}
VALUES = {
    "a.weight": WHOLE["a.weight"][[0, 2, 5]],
    "b.weight": WHOLE["b.weight"][[1, 3]][:, [0, 2, 5]],
    "b.bias": WHOLE["b.bias"][[1, 3]],
    "head.weight": WHOLE["head.weight"][:, [4, 5, 6, 7, 12, 13, 14, 15]],
    "head.bias": WHOLE["head.bias"],
}
UPDATE = Update(
    run="digits-0",
    base_round=3,
    base_hash=SPEC.base_hash,
    client=4,
    examples=50,
    local_steps=8,
    levels=(0, 1),
    samples=(30, 70),
    channels=CHANNELS,
    values=VALUES,
    control={"b.weight": linear(2, 3, 3, 3)},
    opened={"a": np.array([[30, 0, 1, 2, 3, 4], [70] * 6], np.uint32), "b": np.ones((2, 4), np.uint32)},
    strength={"a": np.ones((2, 6), np.float32), "b": np.ones((2, 4), np.float32)},
)
BLOB = encode_update(UPDATE, SPEC)


def same(left: Update, right: Update) -> bool:
    return encode_update(left, SPEC) == encode_update(right, SPEC)


def test_round_trip():
    update = decode_update(BLOB, SPEC)
    assert update.samples == (30, 70) and update.client == 4 and same(update, UPDATE)
    for kind in ("channels", "values", "control", "opened", "strength"):
        read, sent = getattr(update, kind), getattr(UPDATE, kind)
        assert read.keys() == sent.keys()
        assert all(read[name].dtype == sent[name].dtype and np.array_equal(read[name], sent[name]) for name in sent)


def test_the_layout_is_what_the_module_says():
    """Read with nothing but struct and json, as a phone's app would."""
    (length,) = struct.unpack_from("<Q", BLOB)
    header = json.loads(BLOB[8 : 8 + length])

    def numbers(name, kind):
        start, end = header[name]["data_offsets"]
        return np.frombuffer(BLOB[8 + length + start : 8 + length + end], kind).tolist()

    assert numbers("counts", "<u4") == [3, 2] and numbers("channels", "<u2") == [0, 2, 5, 1, 3]
    sent = [VALUES[name] for name in ("a.weight", "b.bias", "b.weight", "head.bias", "head.weight")]
    sent.append(UPDATE.control["b.weight"])
    assert numbers("values", "<f4") == np.concatenate([value.ravel() for value in sent]).tolist()
    assert numbers("opened", "u1") == [30, 0, 1, 2, 3, 4, *[70] * 6, *[1] * 8]
    assert numbers("strength", "<f4") == [1.0] * 20


def test_a_download_may_have_no_examples():
    closed = {layer: np.zeros_like(value) for layer, value in UPDATE.opened.items()}
    download = replace(UPDATE, client=-1, examples=0, samples=(0, 0), opened=closed)
    assert decode_update(encode_update(download, SPEC), SPEC).client == -1


def test_a_network_without_gates():
    spec = replace(SPEC, axes={name: (None,) * len(axes) for name, axes in AXES.items()}, channels={}, control=())
    update = replace(UPDATE, channels={}, values=WHOLE, control={}, opened={}, strength={})
    read = decode_update(encode_update(update, spec), spec)
    assert all(np.array_equal(read.values[name], value) for name, value in WHOLE.items())


def with_meta(**changes):
    tensors, meta = unpack(BLOB)
    return pack(tensors, {key: item for key, item in {**meta, **changes}.items() if item is not ...})


def with_tensor(name, value):
    tensors, meta = unpack(BLOB)
    return pack({key: item for key, item in {**tensors, name: value}.items() if item is not None}, meta)


def at(name, index, value):
    """A tensor of the blob with one entry changed."""
    tensor = unpack(BLOB)[0][name].copy()
    tensor[index] = value
    return tensor


def header_of(length):
    return struct.pack("<Q", length) + BLOB[8:]


FLAT = unpack(BLOB)[0]
WRONG = {
    "lacks tensor": [with_tensor(name, None) for name in FLAT],
    "unknown tensor": [with_tensor("values/bias", FLAT["values"]), with_tensor("scales", FLAT["values"])],
    "'values' is": [with_tensor("values", FLAT["values"][:-1]), with_tensor("values", FLAT["values"].astype("f8"))],
    "'counts' is": [with_tensor("counts", FLAT["counts"].astype("i8")), with_tensor("counts", FLAT["counts"][:1])],
    "'channels' is": [with_tensor("counts", at("counts", 0, 4)), with_tensor("counts", at("counts", 1, 0))],
    "channels of 'a', which has 6": [with_tensor("counts", at("counts", 0, 2**32 - 1))],
    "keeps channel 6 of 'a'": [with_tensor("channels", at("channels", 2, 6))],
    "keeps channel 65535 of 'b'": [with_tensor("channels", at("channels", 4, 2**16 - 1))],
    "not sorted": [with_tensor("channels", at("channels", 0, value)) for value in (2, 4)],
    "not finite": [
        with_tensor("values", at("values", 7, np.nan)),
        with_tensor("values", at("values", -1, np.inf)),
        with_tensor("strength", at("strength", 0, -np.inf)),
    ],
    "more often": [with_tensor("opened", at("opened", 1, 31)), with_meta(samples=[29, 70])],
    "negative": [with_tensor("strength", at("strength", 3, -1))],
    "run is": [with_meta(run="other")],
    "base_round is": [with_meta(base_round=2)],
    "base_hash is": [with_meta(base_hash="0" * 64)],
    "'examples'": [with_meta(examples=0), with_meta(examples=2**31), with_meta(examples=True), with_meta(examples=...)],
    "'client'": [with_meta(client=-2), with_meta(client="4")],
    "'samples'": [with_meta(samples=[100]), with_meta(samples=[-1, 1]), with_meta(samples="ab")],
    "'version'": [with_meta(version=1), with_meta(version=3)],
    "'format'": [with_meta(format="fedgate-bundle")],
    "'codec'": [with_meta(codec="int2")],
    "at most": [BLOB + bytes(2**21)],
    "header is longer": [header_of(2**14 + 1), header_of(2**62)],
    "not a fedgate tensor file": [BLOB[:-1], BLOB[:7], b"", header_of(2**14), BLOB + b"\0"],
}


@pytest.mark.parametrize("reason,blob", [(reason, blob) for reason, blobs in WRONG.items() for blob in blobs])
def test_wrong_updates_are_refused_with_the_reason(reason, blob):
    with pytest.raises(FedgateError) as caught:
        decode_update(blob, SPEC)
    assert reason in str(caught.value) and "\n" not in str(caught.value)


@settings(max_examples=300, deadline=None)
@given(mutations(BLOB) | st.binary(max_size=100))
def test_nothing_is_accepted_that_differs_from_the_spec(blob):
    try:
        update = decode_update(blob, SPEC)
    except FedgateError:
        return
    shapes = {name: take(value, AXES[name], update.channels, SPEC.channels).shape for name, value in WHOLE.items()}
    assert {name: value.shape for name, value in update.values.items()} == shapes
    assert all(np.isfinite(value).all() for value in update.values.values())
    assert all((opened <= np.array(update.samples)[:, None]).all() for opened in update.opened.values())
    assert (update.run, update.base_round, update.base_hash) == (SPEC.run, SPEC.base_round, SPEC.base_hash)
    assert update.examples > 0 or update.client == -1


def test_bytes_do_not_depend_on_order():
    turned = replace(UPDATE, values=dict(reversed(VALUES.items())))
    assert encode_update(turned, SPEC) == BLOB
