"""What is compiled with the flags of an instruction set is shared with nothing that runs on processors without it."""

import shutil
import subprocess

import pytest

from fedgate.device_runtime.kernels import build

FLAGS = ("-std=gnu++20", "-O0", "-w", f"-I{build.SOURCES}")  # at -O0 no function disappears into its callers
# compiler, instruction set, its flags, and the one name that its object defines
OBJECTS = [
    ("g++", "generic", (), "fedgate::kGeneric"),
    ("g++", "avx2", ("-mavx2", "-mfma"), "fedgate::kAvx2"),
    ("g++", "avx512", ("-mavx512f", "-mavx512vl", "-mfma"), "fedgate::kAvx512"),
    ("aarch64-linux-gnu-g++", "neon", (), "fedgate::kNeon"),
]


def machine(compiler):
    """The processor that a compiler is for."""
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    return subprocess.run([compiler, "-dumpmachine"], capture_output=True, text=True, check=True).stdout.split("-")[0]


def shared_names(compiler, source, folder, flags):
    """What an object defines that the linker would take for, or from, another one's."""
    target = folder / "object.o"
    subprocess.run([compiler, *FLAGS, *flags, "-c", source, "-o", target], check=True)
    command = [compiler.replace("g++", "nm"), "--demangle", "--extern-only", "--defined-only", "--format=posix", target]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return sorted(line.rsplit(" ", 3)[0] for line in lines)


@pytest.mark.parametrize("compiler, isa, flags, name", OBJECTS, ids=[isa for _, isa, _, _ in OBJECTS])
def test_an_instruction_set_shares_its_table_alone(tmp_path, compiler, isa, flags, name):
    if machine(compiler) != "x86_64" and isa.startswith("avx"):
        pytest.skip(f"{compiler} is not for x86_64")
    source = build.SOURCES / "microkernels" / f"{isa}.cpp"
    assert shared_names(compiler, source, tmp_path, flags) == [name]


def test_a_shared_function_would_be_seen(tmp_path):
    machine("g++")
    source = tmp_path / "shared.cpp"
    source.write_text("inline int twice(int x) { return 2 * x; }\nint use(int x) { return twice(x); }\n")
    assert shared_names("g++", source, tmp_path, ()) == ["twice(int)", "use(int)"]
