"""Android's native libraries in copies that load on a desktop JVM, and the shim they lean on.

    ~/.cache/fedgate/android/native-x86_64-0123456789ab/libc.so             shim.c; libm.so, liblog.so ... link to it
                                                        libexecutorch.so    adapted copies, see elf.py
                                                        libfbjni.so, libc++_shared.so

A JVM finds them with LD_LIBRARY_PATH and -Djava.library.path both set to that folder.
"""

import hashlib
from pathlib import Path

from fedgate.device_runtime.errors import choose

from . import elf
from .fetch import EXECUTORCH, REACT_NATIVE, fetch
from .tools import kept, need, run, tell

SHIM = Path(__file__).with_name("shim.c")
# ABI -> (compiler, Debian's package)
ABIS = {"x86_64": ("x86_64-linux-gnu-gcc", "gcc"), "arm64-v8a": ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu")}
# What the shim has in Android's form, under a name with a capital letter.
RENAMED = {"fflush", "fprintf", "vfprintf", "fputc", "fputs", "fwrite"}
RENAMED |= {"sysconf", "sigfillset", "pthread_sigmask", "pthread_mutex_init", "strerror_r"}
PROVIDED = ("libm.so", "libdl.so", "liblog.so", "libandroid.so")


def originals(abi: str) -> list[Path]:
    """The libraries as they go into an APK of one ABI. Raises `UsageError` for an unknown ABI."""
    choose("ABI", abi, ABIS)
    executorch = fetch(EXECUTORCH) / "package" / "third-party" / "android" / "libs" / "executorch" / abi
    others = fetch(REACT_NATIVE) / "jni" / abi
    return [executorch / "libexecutorch.so", others / "libfbjni.so", others / "libc++_shared.so"]


def native_libraries(abi: str) -> Path:
    """The folder with the libraries of one ABI that a JVM loads. Raises `FedgateError` with what is missing."""
    libraries = originals(abi)
    recipe = b"".join(path.read_bytes() for path in (Path(__file__), SHIM, Path(elf.__file__)))
    recipe += "".join(str(library) for library in libraries).encode()
    name = f"native-{abi}-{hashlib.sha256(recipe).hexdigest()[:12]}"
    return kept(name, lambda work: _make(work, abi, libraries))


def _make(work: Path, abi: str, libraries: list[Path]) -> None:
    need(ABIS[abi])
    tell(f"adapting Android's {abi} libraries, once")
    shim = work / "libc.so"
    run("the shim does not compile", ABIS[abi][0], "-O2", "-shared", "-fPIC", "-o", shim, SHIM, "-lm")
    for name in PROVIDED:
        (work / name).symlink_to(shim.name)
    for library in libraries:
        (work / library.name).write_bytes(elf.adapt(library.read_bytes(), RENAMED))
