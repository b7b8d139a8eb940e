"""After the first call of a shape the kernel allocates nothing: replay.cpp counts what passes by malloc."""

import pytest
import replay
from cases import random_cases


@pytest.mark.parametrize("threads", [1, 2])
def test_a_shape_that_was_called_before_allocates_nothing(library_path, compiled, tmp_path, isa, threads):
    program = compiled("g++", "g++", "-DCOUNT_ALLOCATIONS", str(library_path), f"-Wl,-rpath,{library_path.parent}")
    assert replay.run([program], random_cases(60, seed=threads), tmp_path, isa, threads) == 0
