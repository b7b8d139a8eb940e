"""One signed APK for one ABI, verified, with what it says of itself."""

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from fedgate.device_runtime.errors import FedgateError

from .app import AAPT, archive
from .compile import BUILD, JDK
from .gradle import gradle
from .library import originals
from .ops import operator_library, prepare
from .tools import need, run

TOOLS = (*JDK, *AAPT, ("zipalign", "zipalign"), ("apksigner", "apksigner"), ("npm", "npm"), ("clang++", "clang"))
LARGEST = 40_000_000  # bytes of an APK for one ABI
PASSWORD = "throw-away"


@dataclass(frozen=True)
class Badging:
    """What an APK says of itself."""

    package: str
    min_sdk: int
    target_sdk: int
    activity: str
    abis: tuple[str, ...]


def build(abi: str) -> tuple[Path, Badging]:
    """The APK for one ABI, aligned, signed with a throw-away key and verified.

    Raises `FedgateError` with what is missing or what failed, and where the APK is not as the Gradle project says.
    """
    need(*TOOLS)
    here = gradle()
    if abi not in here.abis:
        raise FedgateError(f"the app is not built for {abi}, but for {', '.join(here.abis)}")
    prepare(abi)
    native = [*originals(abi), operator_library(abi)]
    BUILD.mkdir(parents=True, exist_ok=True)
    apk = BUILD / f"fedgate-demo-{abi}.apk"
    with tempfile.TemporaryDirectory(prefix="apk-", dir=BUILD) as folder:
        aligned = Path(folder, "aligned.apk")
        run("zipalign", "zipalign", "-p", "4", archive(Path(folder), abi, native), aligned)
        store = ("--ks", key(), "--ks-pass", f"pass:{PASSWORD}", "--min-sdk-version", here.min_sdk)
        run("apksigner", "apksigner", "sign", *store, "--v1-signing-enabled", "false", aligned)
        check(aligned, abi)
        aligned.replace(apk)
    return apk, badging(apk)


def check(apk: Path, abi: str) -> None:
    """Raise `FedgateError` unless an APK is signed, aligned, small enough and as the Gradle project says."""
    here = gradle()
    run("the signature is wrong", "apksigner", "verify", "--min-sdk-version", here.min_sdk, apk)
    run("the APK is not aligned", "zipalign", "-c", "-p", "4", apk)
    if apk.stat().st_size > LARGEST:
        raise FedgateError(f"the APK for {abi} has {apk.stat().st_size:,} bytes, more than {LARGEST:,}")
    found = badging(apk)
    wanted = (here.application_id, here.min_sdk, here.target_sdk, (abi,))
    said = (found.package, found.min_sdk, found.target_sdk, found.abis)
    if said != wanted:
        raise FedgateError(f"the APK says {said}, and the Gradle project {wanted}")


def badging(apk: Path) -> Badging:
    """Package, SDK levels, launchable activity and ABIs of an APK. Raises `FedgateError` where it lacks one."""
    text = run("aapt2", "aapt2", "dump", "badging", apk)

    def field(name: str, pattern: str) -> str:
        found = re.search(pattern, text, re.MULTILINE)
        if found is None:
            raise FedgateError(f"the APK has no {name}")
        return found[1]

    return Badging(
        field("package", r"^package: name='([^']+)'"),
        int(field("lowest SDK level", r"^sdkVersion:'(\d+)'")),
        int(field("target SDK level", r"^targetSdkVersion:'(\d+)'")),
        field("activity to start", r"^launchable-activity: name='([^']+)'"),
        tuple(re.findall(r"'([^']+)'", field("native libraries", r"^native-code: (.*)$"))),
    )


def key() -> Path:
    """A key made here once: a new one for every build would keep a phone from updating the app."""
    store = BUILD / "throw-away.keystore"
    if not store.is_file():
        name = ("-alias", "demo", "-dname", "CN=throw-away", "-keyalg", "RSA", "-keysize", "2048", "-validity", "10000")
        run("keytool", "keytool", "-genkeypair", "-keystore", store, "-storepass", PASSWORD, *name)
    return store
