"""An arm64 JVM under qemu-user, for Android's arm64 libraries: Debian 12's, in the user's cache.

~/.cache/fedgate/android/jvm-arm64-0123456789ab/usr/lib/jvm/java-17-openjdk-arm64/
                                                proc/cpuinfo    ExecuTorch chooses its kernels by it
"""

import hashlib
import os
from pathlib import Path

from fedgate.device_runtime.targets.emulated.cpus import cpuinfo

from .tools import kept, need, run, tell

# ExecuTorch's library for Android has instructions of ARMv8.1 (atomics): a Cortex-A72 does not run it.
CPU = "cortex-a76"
JRE = "openjdk-17-jre-headless"
JAVA = Path("usr", "lib", "jvm", "java-17-openjdk-arm64", "bin", "java")


def java(libraries: Path) -> list[str]:
    """The command of an arm64 JVM whose loader looks in `libraries`, made first where it is missing.

    Raises `FedgateError` with what this machine lacks.
    """
    need(("qemu-aarch64", "qemu-user"))
    root = jvm()
    emulator = ["qemu-aarch64", "-cpu", CPU, "-L", str(root), "-E", f"LD_LIBRARY_PATH={libraries}"]
    # most of what runs here runs once: the first compiler of two does
    return [*emulator, str(root / JAVA), "-XX:TieredStopAtLevel=1"]


def jvm() -> Path:
    """The folder of the arm64 root with a JVM. Raises `FedgateError` with what this machine lacks."""
    recipe = hashlib.sha256(Path(__file__).read_bytes() + cpuinfo(CPU).encode()).hexdigest()[:12]
    return kept(f"jvm-arm64-{recipe}", _make)


def _make(work: Path) -> None:
    need(("mmdebstrap", "mmdebstrap"))
    tell(f"fetching an arm64 JVM from Debian, once, into {work.parent} (about 280 MB)")
    # chrootless: nothing of the packages runs, so it takes neither root nor namespaces
    mode = ("--mode=chrootless", "--variant=extract", "--arch=arm64", f"--include={JRE}")
    run("mmdebstrap", "mmdebstrap", *mode, "bookworm", work)
    for link in work.rglob("*"):
        if link.is_symlink() and link.readlink().is_absolute():
            # qemu looks up a guest's files in the root, but the kernel that follows a link does not
            target = work / link.readlink().relative_to("/")
            link.unlink()
            link.symlink_to(os.path.relpath(target, link.parent))
    (work / "proc").mkdir(exist_ok=True)
    (work / "proc" / "cpuinfo").write_text(cpuinfo(CPU))
