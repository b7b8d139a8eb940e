"""The kernel's sources under sanitizers, over all tiles: also those of 16 lanes, on whatever processor this is.

The vector extension lowers any width to what the processor has, so compiled without its own flags the file of AVX-512
runs everywhere.
"""

import platform
import shutil
import subprocess

import pytest
import replay
from cases import random_cases

X86 = platform.machine() in ("x86_64", "AMD64")
LANES_EVERYWHERE = ("-D__builtin_cpu_supports(name)=1",) if X86 else ()
ISAS = ("avx512", "avx2", "generic") if X86 else ("neon", "generic")
# -Og: compiled in seconds, where -O2 takes a minute
ADDRESS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-Og", *LANES_EVERYWHERE)
THREAD = ("-fsanitize=thread", "-g", "-Og", *LANES_EVERYWHERE)
MODERATE = 2_000_000  # MACs


def fixed_addresses():
    """A prefix for the thread sanitizer: that of GCC 12 does not start at the random addresses of newer Linux.

    Some containers forbid it; then it has to do without.
    """
    command = ["setarch", "-R"]
    allowed = shutil.which("setarch") and subprocess.run([*command, "true"], capture_output=True).returncode == 0
    return command if allowed else []


@pytest.mark.parametrize("count", [100, pytest.param(500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("isa", ISAS)
def test_nothing_beyond_an_array_is_touched(compiled, tmp_path, isa, threads, count):
    program = compiled("g++", "g++", *ADDRESS)
    # the search for leaks does not run below a debugger, and in some containers
    quiet = {"ASAN_OPTIONS": "detect_leaks=0"}
    replay.run([program], random_cases(count, seed=threads, most_macs=MODERATE), tmp_path, isa, threads, quiet)


@pytest.mark.slow
@pytest.mark.parametrize("isa", ISAS)
def test_tiles_of_all_widths_compute_what_naive_loops_compute(compiled, tmp_path, isa):
    program = compiled("g++", "g++", *LANES_EVERYWHERE)
    replay.run([program], random_cases(1000, seed=5), tmp_path, isa, 2)


@pytest.mark.slow
@pytest.mark.parametrize("threads", [2, 3, 4])
def test_threads_do_not_race(compiled, tmp_path, threads):
    program = compiled("g++", "g++", *THREAD)
    command = [*fixed_addresses(), program]
    replay.run(command, random_cases(200, seed=threads, most_macs=MODERATE), tmp_path, ISAS[0], threads)


@pytest.mark.parametrize(
    "flags", [("-O2",), pytest.param(ADDRESS, marks=pytest.mark.slow), pytest.param(THREAD, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_every_index_of_a_loop_runs_once(compiled, threads, flags):
    program = compiled("g++", "g++", *flags, source="pool_stress.cpp")
    command = [*fixed_addresses(), program, str(threads), "3000"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr[:8000]
