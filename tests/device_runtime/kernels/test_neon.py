"""The kernel for 64-bit ARM, cross compiled and run on emulated processors of the Raspberry Pi 4 and 5."""

import pytest
import replay
from cases import random_cases

SMALL = 1_000_000  # MACs


@pytest.mark.parametrize("count", [100, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("isa, threads", [("neon", 1), ("neon", 3), ("generic", 1)])
@pytest.mark.parametrize("processor", ["cortex-a72", "cortex-a76"])
def test_arm_computes_what_naive_loops_compute(compiled, emulator, tmp_path, processor, isa, threads, count):
    program = compiled("aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu", "-O3", "-static")
    command = [*emulator(processor), program]
    replay.run(command, random_cases(count, seed=threads, most_macs=SMALL), tmp_path, isa, threads)
