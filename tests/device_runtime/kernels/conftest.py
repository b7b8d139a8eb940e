"""The kernel, built once a session, and programs that replay cases with other compilers and flags."""

import os
import platform
import shutil

import pytest
import replay

from fedgate.device_runtime.kernels import build
from fedgate.device_runtime.kernels.library import KernelLibrary

# whether or not the processor at hand has them all
ISAS = ("neon", "generic") if platform.machine() == "aarch64" else ("avx512", "avx2", "generic")


def skip(reason):
    """Skip a test for what is missing here; where everything has been installed, that is a failure."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


@pytest.fixture(scope="session")
def library_path():
    reason = build.why_not_buildable()
    if reason:
        skip(reason)
    return build.find("kernels") or build.build()["kernels"]


@pytest.fixture(scope="session")
def library(library_path):
    return KernelLibrary(library_path)


@pytest.fixture(params=ISAS)
def isa(request, library):
    if request.param not in library.isas:
        pytest.skip(f"this processor has no {request.param}")
    return request.param


@pytest.fixture(scope="session")
def compiled():
    """A function: a compiler, its Debian package and the arguments of `replay.compile_program` -> the program."""

    def compile_program(compiler, package, *flags, **source):
        if shutil.which(compiler) is None:
            skip(f"{compiler} is not installed (Debian: apt install {package})")
        return replay.compile_program(compiler, *flags, **source)

    return compile_program


@pytest.fixture(scope="session")
def emulator():
    """A function: an ARM processor's name -> the command before a program for it."""
    if shutil.which("qemu-aarch64") is None:
        skip("qemu-aarch64 is not installed (Debian: apt install qemu-user)")
    return lambda processor: ["qemu-aarch64", "-cpu", processor]
