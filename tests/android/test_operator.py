"""libfedgate_ops.so asks for nothing that Android 8 or ExecuTorch lacks, and `skip` programs then run as in Python."""

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from emulation import emulated
from forward import MAIN, android_and_python, forward_words, reference_images
from offline import elf, ops
from offline.library import RENAMED, native_libraries, originals

from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.kernels.build import find
from fedgate.device_runtime.kernels.library import KernelLibrary

# Of all that Bionic has since Android 8 (API 26).
BIONIC = {
    "free",
    "memcpy",
    "memset",
    "memmove",
    "posix_memalign",
    "snprintf",
    "strcat",
    "strcmp",
    "strlen",
    "vsnprintf",
}
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


@pytest.fixture
def loadable(operator, tmp_path):
    """A function: ABI -> a copy that is adapted as ExecuTorch's library is, for processes of the desktop."""

    def adapt(abi):
        path = tmp_path / abi / ops.NAME
        path.parent.mkdir()
        path.write_bytes(elf.adapt(operator(abi).read_bytes(), RENAMED))
        return path

    return adapt


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
def test_it_chooses_instruction_sets_as_the_desktop_kernel_does(loadable, need_kernel):
    need_kernel()
    isas = KernelLibrary(find("kernels")).isas
    folder = native_libraries("x86_64")
    command = [sys.executable, "-c", LOAD, folder / "libexecutorch.so", loadable("x86_64")]
    done = subprocess.run(command, env=os.environ | {"LD_LIBRARY_PATH": str(folder)}, capture_output=True, text=True)
    assert done.stdout.split() == [isas[0], *isas, "-"], done.stderr


@pytest.mark.parametrize("abi", ["x86_64", pytest.param("arm64-v8a", marks=[emulated, pytest.mark.slow])])
def test_a_skip_program_gives_the_logits_and_masks_of_python(harness, loadable, bundle, tmp_path, need_kernel, abi):
    need_kernel()
    operators = loadable(abi)
    for level in range(2):
        android, python = android_and_python(harness, bundle, "skip", level, tmp_path, operators, abi=abi)
        # NEON's lanes order a sum in another way than AVX's
        assert np.allclose(android[0], python[0], rtol=0, atol=1e-6 * np.abs(python[0]).max())
        assert np.array_equal(android[1], python[1])


def test_without_the_operators_a_skip_program_is_refused(harness, bundle, tmp_path):
    with pytest.raises(FedgateError, match=r"Missing operator: .*fedgate::gated_conv2d\.out"):
        harness.run(MAIN, *forward_words(bundle, "skip", 0, tmp_path))


def hide(library, wanted):
    """A copy in which the functions of these names are the library's own, as in the official AAR."""
    image, hidden = bytearray(library), 2
    _, *header = elf.HEADER.unpack_from(image)
    sections = [elf.SECTION.unpack_from(image, header[5] + i * header[10]) for i in range(header[11])]
    (symbols,) = [section for section in sections if section[1] == elf.SHT_DYNSYM]
    names = sections[symbols[6]][4]
    for position in range(symbols[4], symbols[4] + symbols[5], elf.SYMBOL.size):
        name, kind, _, *rest = elf.SYMBOL.unpack_from(image, position)
        if re.match(wanted, image[names + name : image.index(b"\0", names + name)].decode()):
            elf.SYMBOL.pack_into(image, position, name, kind, hidden, *rest)
    return bytes(image)


def test_a_runtime_that_exports_no_cpp_loads_no_operators_and_runs_all_else(harness, loadable, bundle, tmp_path):
    """As the official AAR does, whose linker script leaves the JNI entry points alone."""
    words, environment = harness.command(MAIN, *forward_words(bundle, "skip", 0, tmp_path, loadable("x86_64")))
    folder = Path(environment["LD_LIBRARY_PATH"])
    for path in folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "libexecutorch.so").unlink()
    (tmp_path / "libexecutorch.so").write_bytes(hide((folder / "libexecutorch.so").read_bytes(), EXPORTED))
    environment = environment | {"LD_LIBRARY_PATH": str(tmp_path)}

    def run(words):
        words = [word.replace(str(folder), str(tmp_path)) for word in words]
        return subprocess.run(words, env=environment, capture_output=True, text=True)

    refused = run(words)
    assert refused.returncode == 1
    assert "UnsatisfiedLinkError" in refused.stderr and re.search(rf"undefined symbol: ({EXPORTED})", refused.stderr)
    masked = run([word.replace("skip.pte", "masked.pte") for word in words[:-1]])
    assert masked.returncode == 0 and len(masked.stdout.splitlines()) == 2 * len(reference_images(bundle))
