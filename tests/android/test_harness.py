"""Android's own ExecuTorch library on a desktop JVM answers as Python's runtime does."""

import numpy as np
import pytest
from emulation import emulated
from forward import android_and_python

from fedgate.device_runtime.errors import FedgateError


def test_logits_and_masks_of_a_masked_program_are_those_of_the_python_runtime(harness, bundle, tmp_path):
    for level in range(2):
        android, python = android_and_python(harness, bundle, "masked", level, tmp_path)
        assert np.array_equal(android[0], python[0]) and np.array_equal(android[1], python[1])


@emulated
@pytest.mark.slow
def test_the_arm64_library_under_qemu_answers_the_same(harness, bundle, tmp_path):
    for level in range(2):
        android, python = android_and_python(harness, bundle, "masked", level, tmp_path, abi="arm64-v8a")
        assert np.allclose(android[0], python[0], rtol=0, atol=1e-5)  # its sums are made in another order
        assert np.array_equal(android[1], python[1])


def test_what_the_library_throws_is_an_exception_in_java(harness, bundle, tmp_path):
    (program,) = [program for program in bundle.manifest.programs if program.role == "dense"]
    (tmp_path / "cut.pte").write_bytes((bundle.path / program.file).read_bytes()[:5000])
    with pytest.raises(FedgateError, match=r"status 1:[\s\S]*ExecutorchRuntimeException.*Cannot get load module"):
        harness.run("org.fedgate.harness.Forward", tmp_path / "cut.pte", "/dev/null", 0, 1, 8, 8)


def test_a_main_that_throws_is_an_error_with_its_message(harness):
    with pytest.raises(FedgateError, match=r"Forward failed with status 1:[\s\S]*nowhere\.pte"):
        harness.run("org.fedgate.harness.Forward", "nowhere.pte", "/dev/null", 0, 1, 8, 8)
