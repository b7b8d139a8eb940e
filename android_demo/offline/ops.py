"""libfedgate_ops.so for the APK and the tests, built without the NDK by the app's own CMakeLists.txt.

    ~/.cache/fedgate/android/ops-x86_64-0123456789ab/libfedgate_ops.so

Debian's clang compiles for Android, with libc++'s headers in the namespace that the NDK gives them. The C library's
headers are glibc's: the kernel calls a dozen functions that Bionic has in the same form. What it needs of GCC's own
code (which instruction sets this processor has) is linked in; all the rest is found in ExecuTorch's library.
"""

import hashlib
import platform
import shutil
from pathlib import Path

from fedgate.device_runtime.errors import FedgateError, choose
from fedgate.device_runtime.kernels.build import NO_COMPILER, cmake, source_digest

from .fetch import EXECUTORCH, fetch
from .gradle import MODULE, gradle
from .tools import kept, need, run, tell

SOURCE = MODULE / "src" / "main" / "cpp"
NAME = "libfedgate_ops.so"
PROCESSORS = {"x86_64": "x86_64", "arm64-v8a": "aarch64"}
PACKAGES = {"x86_64": "g++", "arm64-v8a": "g++-aarch64-linux-gnu"}  # of the compiler whose own code is linked in


def operator_library(abi: str) -> Path:
    """The library for an ABI, built first where it is missing.

    Raises `UsageError` for an unknown ABI, `FedgateError` with what is missing or the compiler's first error.
    """
    choose("ABI", abi, PROCESSORS)
    recipe = [
        source_digest(),
        EXECUTORCH.version,
        gradle().min_sdk,
        Path(__file__).read_text(),
        (SOURCE / "CMakeLists.txt").read_text(),
    ]
    digest = hashlib.sha256(repr(recipe).encode()).hexdigest()[:12]
    return kept(f"ops-{abi}-{digest}", lambda work: _build(work, abi)) / NAME


def prepare(abi: str) -> None:
    """Fetch what `operator_library` is built against. Raises `FedgateError` with what this machine lacks."""
    need(("clang++", "clang"), (compiler_of(PROCESSORS[abi]), PACKAGES[abi]))
    if cmake() is None:
        raise FedgateError(NO_COMPILER)
    libcxx_headers()
    fetch(EXECUTORCH)


def compiler_of(processor: str) -> str:
    return f"{processor}-linux-gnu-g++"


def _build(folder: Path, abi: str) -> None:
    prepare(abi)
    processor, gcc = PROCESSORS[abi], compiler_of(PROCESSORS[abi])
    runtime = fetch(EXECUTORCH) / "package" / "third-party"
    tell(f"building {NAME} for {abi}, once")
    work, target = folder / "build", f"{processor}-linux-android{gradle().min_sdk}"
    work.mkdir()
    linker = shutil.which(f"{processor}-linux-gnu-ld")
    clang = ["clang++", f"--target={target}", "-nostdlib", f"--ld-path={linker}"]
    # Bionic's own are not here; that these are empty only leaves their functions to be found when the library is loaded
    for name in ("libc.so", "libm.so"):
        run("clang++", *clang, "-shared", f"-Wl,-soname,{name}", "-x", "c", "/dev/null", "-o", work / name)
    begin, end, libgcc = (
        run(gcc, gcc, f"-print-file-name={name}").strip() for name in ("crtbeginS.o", "crtendS.o", "libgcc.a")
    )
    flags = ["-nostdinc++", "-D_LIBCPP_ABI_NAMESPACE=__ndk1"]
    flags += [f"-isystem {path}" for path in (libcxx_headers(), libc_headers(processor))]
    definitions = {
        "CMAKE_SYSTEM_NAME": "Linux",
        "CMAKE_SYSTEM_PROCESSOR": processor,
        "CMAKE_CXX_COMPILER": "clang++",
        "CMAKE_CXX_COMPILER_TARGET": target,
        "CMAKE_TRY_COMPILE_TARGET_TYPE": "STATIC_LIBRARY",
        "CMAKE_CXX_FLAGS": " ".join(flags),
        "CMAKE_SHARED_LINKER_FLAGS": f"-nostdlib --ld-path={linker} {begin}",
        "CMAKE_CXX_STANDARD_LIBRARIES": f"-Wl,--no-as-needed -L{work} -lc -lm {libgcc} {end}",
        "EXECUTORCH_ROOT": runtime,
        "EXECUTORCH_LIBRARY": runtime / "android" / "libs" / "executorch" / abi / "libexecutorch.so",
    }
    run("cmake", cmake(), "-S", SOURCE, "-B", work, *(f"-D{name}={value}" for name, value in definitions.items()))
    run(f"{NAME} does not build", cmake(), "--build", work)
    (work / NAME).replace(folder / NAME)
    shutil.rmtree(work)


def libcxx_headers() -> Path:
    """libc++'s headers of the clang++ on the path, as Debian lays them out."""
    folder = Path(shutil.which("clang++")).resolve().parents[1] / "include" / "c++" / "v1"
    if not (folder / "vector").is_file():
        raise FedgateError("libc++'s headers missing: install with: apt install libc++-dev")
    return folder


def libc_headers(processor: str) -> Path:
    """The headers of the C library that differ between processors, as Debian lays them out."""
    if processor == platform.machine():
        return Path(f"/usr/include/{processor}-linux-gnu")
    return Path(f"/usr/{processor}-linux-gnu/include")
