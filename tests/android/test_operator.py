"""libfedgate_ops.so asks for nothing that Android 8 or ExecuTorch lacks."""

import os
import platform
import re
import subprocess
import sys

import pytest
from offline import ops
from offline.library import native_libraries, originals

from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.kernels.build import find
from fedgate.device_runtime.kernels.library import KernelLibrary

# Of all that Bionic has since Android 8 (API 26).
BIONIC = {"free", "memcpy", "memset", "memmove", "posix_memalign", "strcat", "strcmp", "strlen"}
# What the README asks of a build of ExecuTorch: these names in its linker script.
EXPORTED = r"_ZN10executorch7runtime|_ZNK?10executorch9extension10threadpool"
LOAD = """
import ctypes, sys
runtime, library = sys.argv[1:]
ctypes.CDLL(runtime, ctypes.RTLD_GLOBAL)
library = ctypes.CDLL(library)
library.fedgate_isas.restype = library.fedgate_isa.restype = ctypes.c_char_p
library.fedgate_create_with_pool.restype = ctypes.c_void_p
library.fedgate_isa.argtypes = [ctypes.c_void_p]
isas = library.fedgate_isas()
for isa in (None, *isas.split(), b"none"):
    context = library.fedgate_create_with_pool(isa, 1, None, None)
    print((library.fedgate_isa(context) if context else b"-").decode())
"""


@pytest.fixture(scope="session")
def operator():
    """A function: ABI -> the built library; skips where its tools cannot be had, and fails where it does not build."""

    def build(abi):
        try:
            ops.prepare(abi)
        except FedgateError as error:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(str(error))
        return ops.operator_library(abi)

    return build


def lines(*command):
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.parametrize("abi", ["x86_64", "arm64-v8a"])
def test_it_asks_only_for_what_android_8_and_executorch_have(operator, abi):
    library = operator(abi)
    dynamic = "\n".join(lines("readelf", "-d", library))
    assert re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic) == ["libexecutorch_jni.so", "libc.so", "libm.so"]
    # weak ones may be missing
    undefined = {line.split()[-1] for line in lines("nm", "-D", "--undefined-only", library) if " U " in line}
    exported = {line.split()[-1] for line in lines("nm", "-D", "--defined-only", originals(abi)[0])}
    assert {name for name in undefined if "register_kernels" in name}
    assert undefined - BIONIC <= exported
    assert not [name for name in undefined if "executorch" in name and not re.match(EXPORTED, name)]
    segments = [line.split() for line in lines("readelf", "-lW", library)]
    # Bionic knows thread-local segments since Android 10; pages of 16 KiB are those of newer phones
    assert not [fields for fields in segments if fields[:1] == ["TLS"]]
    assert {fields[-1] for fields in segments if fields[:1] == ["LOAD"]} == {"0x4000"}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="loads the x86_64 library into this process's child")
def test_it_chooses_instruction_sets_as_the_desktop_kernel_does(operator, need_kernel):
    need_kernel()
    isas = KernelLibrary(find("kernels")).isas
    folder = native_libraries("x86_64")
    command = [sys.executable, "-c", LOAD, folder / "libexecutorch.so", operator("x86_64")]
    done = subprocess.run(command, env=os.environ | {"LD_LIBRARY_PATH": str(folder)}, capture_output=True, text=True)
    assert done.stdout.split() == [isas[0], *isas, "-"], done.stderr
