"""Every runtime against eager torch, and how each refuses what it cannot run."""

from dataclasses import replace

import numpy as np
import pytest
import tiny_bundle
import torch
from tiny_bundle import program

from fedgate.device_runtime import engines
from fedgate.device_runtime.engines.program import stock_threads
from fedgate.device_runtime.errors import FedgateError, UsageError
from fedgate.device_runtime.formats.bundle import load_bundle

INPUTS = np.random.default_rng(3).normal(size=(5, 1, 3, 8, 8)).astype(np.float32)


@pytest.mark.parametrize("runtime", engines.RUNTIMES)
def test_masked_and_dense_equal_eager(bundle, runtime):
    masked = engines.open_program(bundle, program(bundle, runtime, "masked"))
    dense = engines.open_program(bundle, program(bundle, runtime, "dense"))
    networks = tiny_bundle.networks()
    with torch.no_grad():
        for image in INPUTS:
            for level in (0, 1):
                want = networks["masked", None](torch.from_numpy(image), torch.tensor([level]))
                logits, open, *_ = masked.run(image, level)
                assert np.array_equal(open, want[1].numpy()) and open.dtype == np.uint8
                assert np.allclose(logits, want[0].numpy(), atol=1e-5)
            logits, open, *_ = dense.run(image)
            assert open is None
            assert np.allclose(logits, networks["dense", None](torch.from_numpy(image)).numpy(), atol=1e-5)


@pytest.mark.parametrize("runtime", engines.RUNTIMES)
def test_outputs_are_copies_and_runs_leave_nothing_behind(bundle, runtime):
    loaded = engines.open_program(bundle, program(bundle, runtime, "masked"))
    first, first_open, *_ = loaded.run(INPUTS[0], 1)
    kept = first.copy(), first_open.copy()
    loaded.run(INPUTS[1], 0)
    assert np.array_equal(first, kept[0]) and np.array_equal(first_open, kept[1])
    loaded.prepare(INPUTS[0], 1)
    for _ in range(3):
        loaded.invoke()
    again, again_open, *_ = loaded.run(INPUTS[0], 1)
    assert np.array_equal(again, first) and np.array_equal(again_open, first_open)


@pytest.mark.parametrize("runtime", engines.RUNTIMES)
def test_the_callers_image_is_neither_kept_nor_changed(bundle, runtime):
    loaded = engines.open_program(bundle, program(bundle, runtime, "masked"))
    image = INPUTS[0].copy()
    want, *_ = loaded.run(image, 1)
    assert np.array_equal(image, INPUTS[0])
    turned = np.ascontiguousarray(INPUTS[0].transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)  # the same, other strides
    assert np.array_equal(loaded.run(turned, 1)[0], want)


def test_what_does_not_fit_is_refused_before_the_runtime_sees_it(bundle):
    masked = engines.open_program(bundle, program(bundle, "litert", "masked"))
    static = engines.open_program(bundle, program(bundle, "litert", "static", 1))
    for image, level in ((INPUTS[0], 2), (INPUTS[0], -1), (INPUTS[0], None)):
        with pytest.raises(UsageError, match="level from 0 to 1"):
            masked.run(image, level)
    with pytest.raises(UsageError, match="cannot run level 0"):
        static.run(INPUTS[0], 0)
    for image in (INPUTS[0][:, :2], INPUTS[0].astype(np.float64), INPUTS[:2, 0]):
        with pytest.raises(UsageError, match="takes float32"):
            static.run(image)


@pytest.mark.parametrize("runtime,file", [("litert", "litert-dense.tflite"), ("onnx", "onnx-dense.onnx")])
def test_a_program_that_the_runtime_refuses(changed, runtime, file):
    broken = changed(files={file: b"this is no program" * 100})
    with pytest.raises(FedgateError) as caught:
        engines.load_program(broken, program(broken, runtime, "dense"))
    assert f"{runtime} refuses to load {file}" in str(caught.value)


def test_executorch_refuses_a_broken_program(changed):
    broken = changed(files={"executorch-dense.pte": b"this is no program" * 100})
    with pytest.raises(FedgateError, match="executorch refuses to load executorch-dense"):
        engines.load_program(broken, program(broken, "executorch", "dense"))


def test_a_program_that_is_not_what_the_manifest_says(bundle, changed):
    mixed = changed(files={"litert-masked.tflite": bundle.file("litert-dense.tflite")})
    with pytest.raises(FedgateError, match="does not have the inputs and outputs"):
        engines.load_program(mixed, program(mixed, "litert", "masked"))


def test_executorch_threads_cannot_change_under_a_loaded_program(bundle):
    loaded = engines.open_program(bundle, program(bundle, "executorch", "dense"), threads=1)
    with pytest.raises(FedgateError, match="another number of threads"):
        engines.load_program(bundle, program(bundle, "executorch", "dense"), threads=2)
    want = loaded.run(INPUTS[0])[0]
    del loaded
    two = engines.open_program(bundle, program(bundle, "executorch", "dense"), threads=2)
    assert np.allclose(two.run(INPUTS[0])[0], want, atol=1e-6)


def test_a_program_that_needs_the_kernel_is_refused_without_it(bundle, changed, monkeypatch):
    entries = tiny_bundle.raw_fields(bundle)["programs"]
    entries[0] |= {"role": "skip", "needs_kernel": True, "kernel_layers": [tiny_bundle.LAYERS[0].name]}
    again = load_bundle(changed({"programs": entries}).path)
    monkeypatch.setattr(engines, "find", lambda kind: None)
    with pytest.raises(FedgateError, match="fedgate kernels build"):
        engines.load_program(again, again.manifest.programs[0])


def test_available_names_the_installed_versions():
    found = engines.available()
    assert list(found) == list(engines.RUNTIMES)
    assert all(runtime.version and runtime.reason is None for runtime in found.values())
    with pytest.raises(UsageError, match="known: executorch, litert, onnx"):
        engines.import_runtime("tensorrt")


def test_stock_operators_get_one_thread_where_the_kernel_does_most_of_the_work(bundle):
    masked = next(program for program in bundle.manifest.programs if program.role == "masked")
    skip = replace(masked, role="skip", needs_kernel=True)
    assert stock_threads(bundle.manifest, masked, 4) == 4
    assert stock_threads(bundle.manifest, replace(skip, kernel_layers=("one",)), 4) == 4
    assert stock_threads(bundle.manifest, replace(skip, kernel_layers=("one", "two")), 4) == 1
