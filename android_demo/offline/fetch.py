"""Packages of npm that the offline build is made of: pinned by version and hash, unpacked once into the user's cache.

~/.cache/fedgate/android/kotlin-compiler-2.4.20/             the Kotlin compiler and its standard library
                         react-native-executorch-0.9.3/      ExecuTorch for Android: libraries and classes.jar
                         react-native-0.70.15/               libfbjni.so and libc++_shared.so, which it needs
"""

import re
import shutil
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.storage import sha256_file

from .tools import kept, need, run, tell


@dataclass(frozen=True)
class Package:
    """One package of npm; only files whose path matches `wanted` are unpacked, below their path in the package."""

    name: str
    version: str
    sha256: str
    wanted: str
    archive: str = ""  # an archive inside the package, which is unpacked in turn


KOTLIN = Package(
    "kotlin-compiler",
    "2.4.20",
    "c23dab400d7ce5ea8b6c909947c0ca5454189e4bb1108695b5f464500e5e950f",
    r"package/lib/(kotlin-(compiler|stdlib|reflect|script-runtime|daemon-client)|annotations-13\.0|"
    r"kotlinx-coroutines-core-jvm)\.jar|package/license/.*",
)
EXECUTORCH = Package(
    "react-native-executorch",
    "0.9.3",
    "70a20a865b82f47ac46c82711d93c2038cf99eccbb9b287494219063f2217622",
    r"package/android/libs/classes\.jar|package/third-party/(android/libs/executorch/.*|include/.*)",
)
REACT_NATIVE = Package(
    "react-native",
    "0.70.15",
    "937d2850f71d42ed4341f0229dc132b95f20c52af290a8557a072e07c2c3d310",
    r"jni/(x86_64|arm64-v8a)/lib(fbjni|c\+\+_shared)\.so",
    "package/android/com/facebook/react/react-native/0.70.15/react-native-0.70.15-release.aar",
)


def fetch(package: Package) -> Path:
    """The folder of a package's unpacked files, fetched first where it is missing.

    Raises `FedgateError` where npm is missing or finds no registry, and for a file that is not the pinned one.
    """
    return kept(f"{package.name}-{package.version}", lambda work: _fetch(package, work))


def _fetch(package: Package, work: Path) -> None:
    need(("npm", "npm"))
    tell(f"fetching {package.name} {package.version} from npm, once, into {work.parent}")
    with tempfile.TemporaryDirectory(dir=work.parent) as folder:
        pack = ("npm", "pack", "--silent", f"{package.name}@{package.version}", "--pack-destination", folder)
        run(f"cannot fetch {package.name}", *pack, cwd=folder)
        (file,) = Path(folder).glob("*.tgz")
        check_hash(file, package.sha256)
        with tarfile.open(file) as tar:
            wanted = re.compile(re.escape(package.archive) or package.wanted)
            found = [member for member in tar.getmembers() if member.isfile() and wanted.fullmatch(member.name)]
            tar.extractall(work, found)  # no filter: Debian 12's Python has none, and the archive is the pinned one
    if package.archive:
        with zipfile.ZipFile(work / package.archive) as archive:
            archive.extractall(work, [name for name in archive.namelist() if re.fullmatch(package.wanted, name)])
        shutil.rmtree(work / "package")


def check_hash(file: Path, sha256: str) -> None:
    """Raise `FedgateError` unless a file is the pinned one."""
    if sha256_file(file) != sha256:
        raise FedgateError(f"{file.name} is not the file that was pinned: its sha256 is {sha256_file(file)}")
