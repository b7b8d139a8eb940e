"""Tensor files: the same bytes for the same content, a file that other tools read, and no error but our own."""

import json
import struct

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from mutate import mutations

from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.formats.tensors import DTYPES, KEY, pack, read_tensors, tensors_hash, unpack, write_tensors

TENSORS = {"a/b": np.arange(6, dtype=np.float32).reshape(2, 3), "c": np.array([1, 2], np.uint16), "s": np.float64(3)}
META = {"version": 1, "name": "é", "list": [1, 2.5, None]}


def raw(header: dict, data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_round_trip_of_every_dtype_and_shape():
    tensors = {code: np.arange(4).astype(dtype).reshape(2, 2) for code, dtype in DTYPES.items()}
    tensors |= {"empty": np.zeros((0, 3), np.float32), "scalar": np.array(5, np.int32)}
    back, meta = unpack(pack(tensors, META))
    assert meta == META and list(back) == sorted(tensors)
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype and back[name].shape == tensor.shape
        assert np.array_equal(back[name], tensor)


def test_same_content_gives_same_bytes():
    turned = {name: TENSORS[name] for name in reversed(TENSORS)}
    big_endian = {**TENSORS, "a/b": TENSORS["a/b"].astype(">f4")}
    strided = {**TENSORS, "a/b": np.asfortranarray(TENSORS["a/b"])}
    meta = {name: META[name] for name in reversed(META)}
    for same in (turned, big_endian, strided):
        assert pack(same, meta) == pack(TENSORS, META)
        assert tensors_hash(same) == tensors_hash(TENSORS)


def test_hash_sees_name_dtype_shape_and_value():
    base = tensors_hash(TENSORS)
    changed = [
        {**TENSORS, "d": TENSORS["c"]},
        {**TENSORS, "c": TENSORS["c"].astype(np.uint32)},
        {**TENSORS, "c": TENSORS["c"].reshape(2, 1)},
        {**TENSORS, "c": np.array([1, 3], np.uint16)},
        {"a/b": TENSORS["c"], "c": TENSORS["a/b"], "s": TENSORS["s"]},
    ]
    assert len({base, *map(tensors_hash, changed)}) == 6


@pytest.mark.parametrize("name", ["\x7f\x9b31m", "a\u2028b", "x" * 10_000])
def test_a_name_from_a_stranger_gives_one_printable_line(name):
    blob = raw({"a": {"dtype": name, "shape": [2], "data_offsets": [0, 8]}}, bytes(8))
    with pytest.raises(FedgateError) as caught:
        unpack(blob)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 1000


def test_another_tool_reads_it(tmp_path):
    write_tensors(tmp_path / "x.safetensors", TENSORS, META)
    with safetensors.safe_open(tmp_path / "x.safetensors", framework="np") as file:
        assert list(file.metadata()) == [KEY] and json.loads(file.metadata()[KEY]) == META
        assert np.array_equal(file.get_tensor("a/b"), TENSORS["a/b"])
    assert np.array_equal(read_tensors(tmp_path / "x.safetensors")[0]["c"], TENSORS["c"])
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.safetensors"
    write_tensors(path, TENSORS, META)
    before = path.read_bytes()
    with pytest.raises(FedgateError, match="bool"):
        write_tensors(path, {"x": np.array([True])}, META)
    with pytest.raises(FedgateError, match="cannot write"):
        write_tensors(tmp_path / "none" / "x.safetensors", TENSORS, META)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


GOOD = {"__metadata__": {KEY: "{}"}, "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
BAD = {
    "empty": b"",
    "huge header": struct.pack("<Q", 2**63) + b"{}",
    "truncated": pack(TENSORS, META)[:-1],
    "longer": pack(TENSORS, META) + b"x",
    "huge shape": raw({**GOOD, "a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}}, bytes(4)),
    "huge offsets": raw({**GOOD, "a": {"dtype": "F32", "shape": [2**60], "data_offsets": [0, 2**62]}}, bytes(4)),
    "empty of huge shape": raw(
        {**GOOD, "a": {"dtype": "F32", "shape": [0, 2**63], "data_offsets": [0, 0]}},
    ),
    "bf16": raw({**GOOD, "a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}, bytes(4)),
    "fp8": raw({**GOOD, "a": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}, bytes(4)),
    "bool that is neither": raw({**GOOD, "a": {"dtype": "BOOL", "shape": [4], "data_offsets": [0, 4]}}, b"\2" * 4),
    "no metadata": safetensors.numpy.save({"a": np.zeros(1)}),
    "another key": safetensors.numpy.save({"a": np.zeros(1)}, {"x": "{}"}),
    "metadata not JSON": safetensors.numpy.save({"a": np.zeros(1)}, {KEY: "{"}),
    "metadata a list": safetensors.numpy.save({"a": np.zeros(1)}, {KEY: "[]"}),
    "metadata NaN": safetensors.numpy.save({"a": np.zeros(1)}, {KEY: '{"a":NaN}'}),
    "metadata infinite": safetensors.numpy.save({"a": np.zeros(1)}, {KEY: '{"a":1e999}'}),
    "metadata key twice": safetensors.numpy.save({"a": np.zeros(1)}, {KEY: '{"a":1,"a":2}'}),
    "metadata surrogate": safetensors.numpy.save({"a": np.zeros(1)}, {KEY: '{"a":"\\ud800"}'}),
    "metadata deep": safetensors.numpy.save({"a": np.zeros(1)}, {KEY: "[" * 100_000}),
    "metadata long number": safetensors.numpy.save({"a": np.zeros(1)}, {KEY: '{"a":' + "9" * 10_000 + "}"}),
}


@pytest.mark.parametrize("name", BAD)
def test_malformed_blobs_are_refused(name):
    with pytest.raises(FedgateError) as caught:
        unpack(BAD[name])
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_metadata_that_is_no_json_is_not_written():
    for meta in ({"a": float("nan")}, {"a": {1, 2}}):
        with pytest.raises(FedgateError):
            pack({}, meta)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_give_only_our_error(blob):
    with pytest.raises(FedgateError):
        unpack(blob)


@settings(max_examples=500, deadline=None)
@given(mutations(pack(TENSORS, META)))
def test_mutated_blobs_give_tensors_or_our_error(blob):
    try:
        tensors, meta = unpack(blob)
    except FedgateError:
        return
    assert isinstance(meta, dict) and all(tensor.dtype in DTYPES.values() for tensor in tensors.values())
