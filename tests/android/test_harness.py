"""Android's own ExecuTorch library on a desktop JVM answers as Python's runtime does."""

import numpy as np
import pytest
from emulation import emulated

from fedgate.device_runtime.engines import load_program
from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.tensors import unpack


def image_and_logits(bundle, program, level, folder):
    """Writes the first reference image to `folder`; returns what Forward is called with, and Python's logits."""
    images = unpack((bundle.path / "reference.safetensors").read_bytes())[0]["image"]
    (folder / "image").write_bytes(images[:1].astype("<f4").tobytes())
    logits, _ = load_program(bundle, program).run(images[:1], level)
    return (bundle.path / program.file, folder / "image", level, *images.shape[1:]), logits[0]


def test_logits_of_a_masked_program_are_those_of_the_python_runtime(harness, bundle, tmp_path):
    (program,) = [program for program in bundle.manifest.programs if program.role == "masked"]
    for level in range(2):
        arguments, expected = image_and_logits(bundle, program, level, tmp_path)
        printed = harness.run("org.fedgate.harness.Forward", *arguments)
        assert np.array_equal(np.array(printed.splitlines()[0].split(), np.float32), expected)


@emulated
@pytest.mark.all
def test_the_arm64_library_under_qemu_answers_the_same(harness, bundle, tmp_path):
    (program,) = [program for program in bundle.manifest.programs if program.role == "masked"]
    arguments, expected = image_and_logits(bundle, program, 1, tmp_path)
    printed = harness.run("org.fedgate.harness.Forward", *arguments, abi="arm64-v8a")
    assert np.allclose(np.array(printed.split(), np.float32), expected, rtol=0, atol=1e-5)  # NEON sums in another order


def test_a_main_that_throws_is_an_error_with_its_message(harness):
    with pytest.raises(FedgateError, match=r"Forward failed with status 1:[\s\S]*nowhere\.pte"):
        harness.run("org.fedgate.harness.Forward", "nowhere.pte", "/dev/null", 0, 1, 8, 8)
