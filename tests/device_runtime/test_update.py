"""Updates: read back as sent, refused with a reason when anything differs from what the receiver expects."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tensors import mutations

from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.tensors import pack, tensors_hash, unpack
from fedgate.device_runtime.update import Update, UpdateSpec, decode_update, encode_update

VALUES = {"conv.weight": np.linspace(-1, 1, 54, dtype=np.float32).reshape(6, 1, 3, 3), "bias": np.ones(6, np.float32)}
SPEC = UpdateSpec(
    parameters={"conv.weight": (6, 1, 3, 3), "bias": (6,)},
    channels={"conv": 6},
    levels=2,
    run="digits-0",
    base_round=3,
    base_hash=tensors_hash(VALUES),
)
UPDATE = Update(
    run="digits-0",
    base_round=3,
    base_hash=SPEC.base_hash,
    client=4,
    examples=50,
    local_steps=8,
    samples=(30, 70),
    values=VALUES,
    opened={"conv": np.array([[30, 0, 1, 2, 3, 4], [70] * 6], np.uint32)},
    strength={"conv": np.ones((2, 6), np.float32)},
)
BLOB = encode_update(UPDATE)


def same(left: Update, right: Update) -> bool:
    return encode_update(left) == encode_update(right)


def test_round_trip():
    update = decode_update(BLOB, SPEC)
    assert update.samples == (30, 70) and update.client == 4 and same(update, UPDATE)
    assert np.array_equal(update.values["conv.weight"], VALUES["conv.weight"])
    assert update.opened["conv"].dtype == np.uint32


def test_a_download_may_have_no_examples():
    download = replace(UPDATE, client=-1, examples=0, samples=(0, 0), opened={"conv": np.zeros((2, 6), np.uint32)})
    assert decode_update(encode_update(download), SPEC).client == -1


def with_meta(**changes):
    tensors, meta = unpack(BLOB)
    return pack(tensors, {key: item for key, item in {**meta, **changes}.items() if item is not ...})


def with_tensor(name, value):
    tensors, meta = unpack(BLOB)
    return pack({key: item for key, item in {**tensors, name: value}.items() if item is not None}, meta)


NAN = VALUES["bias"] * np.float32("nan")
WRONG = {
    "lacks tensor 'values/bias'": [with_tensor("values/bias", None)],
    "unknown tensor": [
        with_tensor("values/extra", VALUES["bias"]),
        with_tensor("channels/conv", np.arange(6, dtype="u2")),
    ],
    "not float32 [6]": [with_tensor("values/bias", VALUES["bias"][:5]), with_tensor("values/bias", np.ones(6, "f2"))],
    "not finite": [
        with_tensor("values/bias", NAN),
        with_tensor("salience/strength/conv", np.full((2, 6), np.inf, "f4")),
    ],
    "more often": [with_tensor("salience/opened/conv", np.full((2, 6), 31, "u4")), with_meta(samples=[29, 70])],
    "negative": [with_tensor("salience/strength/conv", -np.ones((2, 6), "f4"))],
    "run is": [with_meta(run="other")],
    "base_round is": [with_meta(base_round=2)],
    "base_hash is": [with_meta(base_hash="0" * 64)],
    "'examples'": [with_meta(examples=0), with_meta(examples=2**31), with_meta(examples=True), with_meta(examples=...)],
    "'client'": [with_meta(client=-2), with_meta(client="4")],
    "'samples'": [with_meta(samples=[100]), with_meta(samples=[-1, 1]), with_meta(samples="ab")],
    "'version'": [with_meta(version=2)],
    "'format'": [with_meta(format="fedgate-bundle")],
    "'codec'": [with_meta(codec="int8")],
    "at most": [BLOB + bytes(2**21)],
    "not a fedgate tensor file": [BLOB[:-1], b""],
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
    assert {name: value.shape for name, value in update.values.items()} == SPEC.parameters
    assert all(np.isfinite(value).all() for value in update.values.values())
    assert (update.opened["conv"] <= np.array(update.samples)[:, None]).all()
    assert (update.run, update.base_round, update.base_hash) == (SPEC.run, SPEC.base_round, SPEC.base_hash)
    assert update.examples > 0 or update.client == -1


def test_bytes_do_not_depend_on_order():
    turned = replace(UPDATE, values=dict(reversed(VALUES.items())))
    assert encode_update(turned) == BLOB
