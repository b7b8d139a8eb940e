"""Packages that Debian has no more, or keeps for build machines: pinned by version and hash, in the user's cache.

    ~/.cache/fedgate/android/dalvik-exchange-10.0.0+r36-1/       dx: class files to dex (last in Debian 11)
                             libandroid-23-java-6.0.1+r72-6/     the classes of Android 6 to compile against (the same)
                             enjarify-1.0.3-5/                   dex to class files

They come from the repositories that apt knows on this machine; nothing is installed, and no privilege is needed.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from fedgate.device_runtime.errors import FedgateError

from .fetch import check_hash
from .tools import kept, need, run, tell

HELPER = "/usr/lib/apt/apt-helper"


@dataclass(frozen=True)
class DebianPackage:
    """One package for all architectures, where the repository has it."""

    name: str
    version: str
    source: str
    sha256: str

    @property
    def pool(self) -> str:
        return f"pool/main/{self.source[0]}/{self.source}/{self.name}_{self.version}_all.deb"


DX = DebianPackage(
    "dalvik-exchange",
    "10.0.0+r36-1",
    "android-platform-dalvik",
    "8fc128db7c27253d963eb9b33de79b197162a4749d2ba69019b2fd0664cbd7fe",
)
STUBS = DebianPackage(
    "libandroid-23-java",
    "6.0.1+r72-6",
    "android-framework-23",
    "8af1b6df556971dda0a6da3536ea526a838e0c363afcdd454213d8bce94793e3",
)
ENJARIFY = DebianPackage(
    "enjarify",
    "1.0.3-5",
    "enjarify",
    "040e72e7154ec1fb8fd234ebd31c3ae24d95553890fe7d8bd741da396d575f8c",
)


def dx_jar() -> Path:
    return unpacked(DX) / "usr" / "share" / "java" / "com.android.dx-10.0.0.jar"


def android_jar() -> Path:
    """Android's classes of API level 23, without code: what may be called on every phone that the app runs on."""
    return unpacked(STUBS) / "usr" / "share" / "java" / "com.android.android-23.jar"


def unpacked(package: DebianPackage) -> Path:
    """The folder of a package's files, fetched first where it is missing.

    Raises `FedgateError` without apt, and where none of its repositories has the pinned file.
    """
    return kept(f"{package.name}-{package.version}", lambda work: _fetch(package, work))


def _fetch(package: DebianPackage, work: Path) -> None:
    need(("apt-get", "apt"), ("dpkg-deb", "dpkg"))
    tell(f"fetching {package.name} {package.version} from Debian, once, into {work.parent}")
    listed = run("apt", "apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages")
    wrong = "apt knows no repository"
    with tempfile.TemporaryDirectory(prefix="fedgate-") as folder:
        file = Path(folder, f"{package.name}.deb")
        for repository in dict.fromkeys(listed.split()):
            try:
                run("apt-helper", HELPER, "download-file", repository + package.pool, file, f"SHA256:{package.sha256}")
                break
            except FedgateError as error:
                wrong = str(error)
        if not file.is_file():
            raise FedgateError(f"cannot fetch {package.name} {package.version}: {wrong}")
        check_hash(file, package.sha256)
        run(f"cannot unpack {package.name}", "dpkg-deb", "-x", file, work)
