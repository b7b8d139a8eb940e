"""Verification finds what is wrong, and forgives masks only where the choice was close."""

import numpy as np
import pytest

from fedgate.device_runtime.errors import UsageError
from fedgate.device_runtime.formats.macs import Layer
from fedgate.device_runtime.formats.records import REFERENCE_META
from fedgate.device_runtime.formats.tensors import pack, read_tensors
from fedgate.device_runtime.verify import compare_masks, relative_error, verify

LAYERS = (
    Layer("a", "conv", 3, 4, (3, 3), (8, 8), gate=True),
    Layer("b", "conv", 4, 4, (3, 3), (8, 8), gate=True, input_gate="a"),
)
HALF = 0.5  # keeps 2 of 4


def masks(*bits):
    return np.array(bits, np.uint8)


def gates(*values):
    return np.array(values, np.float32)


A, A_GATES = (1, 1, 0, 0), (3, 2, 1, 0)


def compare(mine_b, right_b, gates_b, mine_a=A):
    return compare_masks(masks(*mine_a, *mine_b), masks(*A, *right_b), gates(*A_GATES, *gates_b), LAYERS, HALF)


def test_equal_masks():
    assert compare((1, 0, 1, 0), (1, 0, 1, 0), (4, 0, 3, 0)) == (0, None)


def test_a_swap_of_nearly_equal_gates_is_two_close_calls():
    assert compare((1, 0, 1, 0), (1, 1, 0, 0), (4, 2.0001, 2, 1)) == (2, None)


def test_a_swap_of_different_gates_is_wrong():
    count, fault = compare((1, 0, 1, 0), (1, 1, 0, 0), (4, 2.1, 2, 1))
    assert count == 0 and "channel 1 of 'b' should be open" in fault


def test_one_close_channel_does_not_excuse_another():
    _, fault = compare((0, 0, 1, 1), (1, 1, 0, 0), (4, 2.0001, 2, 1))
    assert "of 'b'" in fault


def test_a_gate_near_zero_may_open_or_close():
    assert compare((1, 1, 0, 0), (1, 0, 0, 0), (4, 0, 0, 0)) == (1, None)
    assert compare((1, 0, 0, 0), (1, 1, 0, 0), (4, 1e-4, 0, 0)) == (1, None)
    assert compare((1, 0, 0, 0), (1, 1, 0, 0), (4, 1e-2, 0, 0))[1] is not None


def test_no_more_channels_open_than_the_density_allows():
    _, fault = compare((1, 1, 1, 0), (1, 1, 0, 0), (4, 2.0001, 2, 1))
    assert "3 channels open, and may have 2" in fault


def test_what_follows_a_close_call_is_not_judged():
    near = gates(3, 2, 2, 0, 4, 3, 2, 1)
    mine, right = masks(1, 0, 1, 0, 0, 0, 1, 1), masks(1, 1, 0, 0, 1, 1, 0, 0)
    assert compare_masks(mine, right, near, LAYERS, HALF) == (2, None)


def test_values_other_than_0_and_1_are_wrong():
    assert "other than 0 and 1" in compare((2, 1, 0, 0), (1, 1, 0, 0), (4, 3, 2, 1))[1]


def test_relative_error_of_values_that_are_not_finite():
    assert relative_error(np.float32([1, np.nan]), np.float32([1, 2])) == float("inf")
    assert relative_error(np.float32([1, 2.5]), np.float32([1, -2])) == pytest.approx(2.25)


def test_every_program_of_a_good_bundle_is_ok(bundle):
    rows = verify(bundle)
    assert len(rows) == 8 and {row["status"] for row in rows} == {"ok"}
    assert all(0 < row["compared"] <= row["runs"] and row["max_error"] <= 1e-4 for row in rows)
    assert {row["runs"] for row in rows if row["role"] == "masked"} == {8}


@pytest.mark.parametrize("runtime", ["litert", "executorch", "onnx"])
def test_wrong_references_are_found(bundle, changed, runtime):
    tensors, _ = read_tensors(bundle.file("reference.safetensors"))
    logits = tensors["dense/logits"].copy()
    logits[2] += np.abs(logits[2]).max() * np.float32(2e-4)
    open = tensors["masked/1/open"].copy()
    open[0, :16] = 1 - open[0, :16]
    wrong = pack({**tensors, "dense/logits": logits, "masked/1/open": open}, REFERENCE_META)
    rows = {row["role"]: row for row in verify(changed(files={"reference.safetensors": wrong}), runtime)}
    assert rows["dense"]["status"] == "mismatch" and "input 2" in rows["dense"]["reason"]
    assert rows["masked"]["status"] == "mismatch" and "input 0 at level 1" in rows["masked"]["reason"]


def test_swapped_programs_are_found(bundle, changed):
    swapped = changed(files={"onnx-dense.onnx": bundle.file("onnx-masked.onnx")})
    rows = {row["role"]: row for row in verify(swapped, "onnx")}
    assert rows["masked"]["status"] == "ok" and rows["dense"]["status"] == "mismatch"


def test_too_many_close_calls_are_a_mismatch(bundle, changed):
    """References whose gates all tie excuse any choice one by one, but not in such numbers."""
    tensors, _ = read_tensors(bundle.file("reference.safetensors"))
    for level in (0, 1):
        tensors[f"masked/{level}/gate"] = np.ones_like(tensors[f"masked/{level}/gate"])
        tensors[f"masked/{level}/open"] = np.roll(tensors[f"masked/{level}/open"], 1, axis=0)
    rows = verify(changed(files={"reference.safetensors": pack(tensors, REFERENCE_META)}), "litert")
    (masked,) = (row for row in rows if row["role"] == "masked")
    assert masked["status"] == "mismatch" and "too many" in masked["reason"]


def test_unknown_runtime(bundle):
    with pytest.raises(UsageError, match="known: executorch, litert, onnx"):
        verify(bundle, "tensorrt")
