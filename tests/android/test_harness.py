"""Android's own ExecuTorch library on a desktop JVM answers as Python's runtime does."""

import numpy as np
import pytest

from fedgate.device_runtime.engines import load_program
from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.tensors import unpack


def test_logits_of_a_masked_program_are_those_of_the_python_runtime(harness, bundle, tmp_path):
    (program,) = [program for program in bundle.manifest.programs if program.role == "masked"]
    images = unpack((bundle.path / "reference.safetensors").read_bytes())[0]["image"]
    (tmp_path / "image").write_bytes(images[:1].astype("<f4").tobytes())
    python = load_program(bundle, program)
    for level in range(2):
        printed = harness.run(
            "org.fedgate.harness.Forward", bundle.path / program.file, tmp_path / "image", level, *images.shape[1:]
        )
        expected, _ = python.run(images[:1], level)
        assert np.array_equal(np.array(printed.split(), np.float32), expected[0])


def test_a_main_that_throws_is_an_error_with_its_message(harness):
    with pytest.raises(FedgateError, match=r"Forward failed with status 1:[\s\S]*nowhere\.pte"):
        harness.run("org.fedgate.harness.Forward", "nowhere.pte", "/dev/null", 0, 0)
