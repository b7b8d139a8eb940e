"""Loops are found where a compiler put them, and llvm-mca counts what can be counted by hand."""

import shutil
import subprocess

import inner_loops
import pytest

SOURCE = """
void axpy(float *y, const float *x, float a) { for (int i = 0; i < 4096; i++) y[i] += a * x[i]; }
float plain(float x) { return x * x; }
"""


def test_the_inner_loop_of_a_compiled_function(tmp_path):
    compiler = shutil.which("aarch64-linux-gnu-gcc")
    if compiler is None:
        pytest.skip("aarch64-linux-gnu-gcc is missing: install Debian's package gcc-aarch64-linux-gnu")
    (tmp_path / "a.c").write_text(SOURCE)
    flags = ["-O3", "-fno-unroll-loops", "-shared", "-fPIC", "-ffp-contract=fast"]
    subprocess.run([compiler, *flags, "-o", tmp_path / "a.so", tmp_path / "a.c"], check=True)
    loops = [
        loop for function in inner_loops.disassemble(tmp_path / "a.so") for loop in inner_loops.inner_loops(function)
    ]
    found = [loop for loop in loops if any(map(inner_loops.is_multiply_add, loop))]
    assert len(found) == 1
    assert sum(map(inner_loops.is_multiply_add, found[0])) == 1
    assert found[0][-1][0].startswith("b.")
    assert not any(mnemonic == "ret" for mnemonic, _ in found[0])


def test_a_chain_of_multiply_adds_takes_their_latency_and_independent_ones_do_not():
    if shutil.which("llvm-mca") is None and shutil.which("llvm-mca-19") is None:
        pytest.skip("llvm-mca is missing: install Debian's package llvm")
    chain = [("fmla", "v0.4s, v30.4s, v31.4s")] * 8
    apart = [("fmla", f"v{i}.4s, v30.4s, v31.4s") for i in range(8)]
    for core in inner_loops.CORES.values():
        assert inner_loops.cycles(chain, core) > 2 * inner_loops.cycles(apart, core)
