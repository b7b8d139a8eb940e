"""Codecs: what they keep, against arithmetic written out entry by entry."""

import numpy as np
import pytest

from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.formats.codec import (
    CODECS,
    count,
    decode_slices,
    encode_slices,
    pack_codes,
    tensor_lengths,
    unpack_codes,
)

RNG = np.random.default_rng(0)
SHAPES = {"a": (3, 4, 2, 2), "b": (5,), "c.running_var": (4,), "d": (2, 0), "e": (0, 3), "f": (2, 6), "g": ()}
BASE = {name: np.abs(RNG.normal(size=shape)).astype(np.float32) for name, shape in SHAPES.items() if name != "f"}
VALUES = {
    name: (BASE.get(name, np.float32(0)) + 0.01 * RNG.normal(size=shape)).astype(np.float32)
    for name, shape in SHAPES.items()
}


def sent(codec, values=VALUES, seed=0, base=BASE):
    return decode_slices(codec, encode_slices(codec, values, base, seed), SHAPES, base)


def test_fp32_keeps_every_bit():
    assert all(sent("fp32")[name].tobytes() == value.tobytes() for name, value in VALUES.items())


@pytest.mark.parametrize("codec", CODECS)
def test_lengths_are_as_announced(codec):
    tensors = encode_slices(codec, VALUES, BASE, 0)
    assert {name: (tensor.dtype, len(tensor)) for name, tensor in tensors.items()} == tensor_lengths(codec, SHAPES)


def test_fp16_rounds_the_difference():
    for name, value in sent("fp16").items():
        base = BASE.get(name, np.zeros_like(value))
        expected = base + (VALUES[name] - base).astype(np.float16).astype(np.float32)
        assert np.array_equal(value, expected) and value.dtype == np.float32


@pytest.mark.parametrize(("codec", "most"), [("int8", 127), ("int4", 7)])
def test_an_entry_becomes_a_neighbouring_step(codec, most):
    decoded = sent(codec)
    for name, shape in SHAPES.items():
        base = BASE.get(name, np.zeros(shape, np.float32))
        if len(shape) < 2:
            assert np.array_equal(decoded[name], base + (VALUES[name] - base).astype(np.float16).astype(np.float32))
            continue
        for row in range(shape[0]):
            exact, got = (VALUES[name] - base)[row].ravel(), (decoded[name] - base)[row].ravel()
            step = max((abs(float(value)) for value in exact), default=0) / most
            for one, other in zip(exact.tolist(), got.tolist(), strict=True):
                assert abs(one - other) < step * 1.001 + 1e-7


def test_two_codes_of_int4_share_a_byte():
    rows = {"row": np.array([[7.0, -7.0, 0.0], [-1.0, 2.0, 7.0]], np.float32), "z": np.array([[3.0]], np.float32)}
    tensors = encode_slices("int4", rows, {}, 0)  # scales of 1, 1 and 3 / 7: nothing is left to chance
    assert tensors["values"].tolist() == [0x1F, 0x78, 0xFA, 0x8F]


@pytest.mark.parametrize(("bits", "size"), [(8, 7), (4, 4), (2, 2)])
def test_codes_of_any_width_come_back(bits, size):
    codes = RNG.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), 7).astype(np.int8)
    packed = pack_codes(codes, bits)
    assert packed.nbytes == size and np.array_equal(unpack_codes(packed, bits, 7), codes)


@pytest.mark.parametrize(("codec", "most"), [("int8", 127), ("int4", 7)])
def test_stochastic_rounding_has_no_bias(codec, most):
    value = np.linspace(-1, 1, 21, dtype=np.float32)[None]
    mean = np.mean([sent_row(codec, value, seed) for seed in range(4000)], axis=0)
    step = 1 / most  # the mean of 4,000 draws has a deviation of at most half a step / sqrt(4,000)
    assert np.abs(mean - value).max() < 5 * 0.5 * step / 4000**0.5
    assert np.array_equal(sent_row(codec, value, 3), sent_row(codec, value, 3))
    assert not np.array_equal(sent_row(codec, value, 3), sent_row(codec, value, 4))


def sent_row(codec, value, seed):
    shapes = {"row": value.shape}
    return decode_slices(codec, encode_slices(codec, {"row": value}, {}, seed), shapes, {})["row"]


@pytest.mark.parametrize("codec", ["fp16", "int8", "int4"])
def test_a_variance_does_not_fall_below_zero(codec):
    base = BASE | {"c.running_var": np.full(4, 1e-3, np.float32)}
    values = VALUES | {"c.running_var": np.zeros(4, np.float32)}  # the difference rounds to one below -base
    assert np.float32(np.float16(-1e-3)) + np.float32(1e-3) < 0
    assert (sent(codec, values, base=base)["c.running_var"] == 0).all()


@pytest.mark.parametrize(
    ("codec", "name", "value", "reason"),
    [
        ("int8", "values", -128, "a code below -127"),
        ("int8", "scales", -1e-3, "a number below 0"),
        ("int8", "scales", 3e38, "not finite once"),
        ("int4", "values", 0x10, "a code below -7"),
        ("int4", "scales", 3e38, "not finite once"),
        ("fp32", "values", -1, "variance below 0"),
    ],
)
def test_what_no_encoder_writes_is_refused(codec, name, value, reason):
    tensors = encode_slices(codec, VALUES, BASE, 0)
    entry = count(SHAPES["a"]) + count(SHAPES["b"]) if codec == "fp32" else 0
    tensors[name][entry] = value
    with pytest.raises(FedgateError, match=reason):
        decode_slices(codec, tensors, SHAPES, BASE)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e38])
def test_weights_that_diverged_are_refused_by_the_receiver(codec, value):
    """1e38 is finite, but no difference that fp16 can hold; and int8's 127 steps may go over the largest float."""
    values = VALUES | {"a": np.full(SHAPES["a"], value, np.float32), "b": np.full(5, value, np.float32)}
    tensors = encode_slices(codec, values, BASE, 0)
    finite = all(np.isfinite(tensor).all() for tensor in tensors.values())
    assert finite == (codec == "fp32" and value == 1e38)
