"""The app's own classes: the plain ones, the Activities with their resources, and the dex of them all."""

import re
import zipfile
from pathlib import Path

from .compile import compile_java, compile_kotlin, made, sources
from .dex import dex, executorch_classes
from .gradle import MODULE, SCRIPT, gradle
from .tools import need, run

HERE = Path(__file__).parent
MAIN = MODULE / "src" / "main"
SOURCES = MAIN / "kotlin" / "org" / "fedgate"
ACTIVITIES = "demo"  # the one package of the app that knows Android
FRAMEWORK = Path("/usr/share/android-framework-res/framework-res.apk")  # resources of Android 10
AAPT = (("aapt2", "aapt"), (str(FRAMEWORK), "android-framework-res"))


def libraries() -> list[Path]:
    """Folders of the classes that the app uses and that a Gradle build gets from Maven."""
    return [executorch_classes(), compile_java("jni", sources(HERE / "jni", ".java"))]


def plain_classes() -> Path:
    """The folder of the app's classes that know nothing of Android."""
    return compile_kotlin("app", sources(SOURCES, ".kt", without=[ACTIVITIES]), libraries(), android=True)


def resources() -> Path:
    """A folder with base.apk, which has manifest, resources and assets, and with R.java below java/."""
    need(*AAPT)
    here = gradle()
    inputs = [path for path in sorted(MAIN.rglob("*")) if path.is_file() and path.suffix != ".kt"]

    def make(folder: Path) -> None:
        manifest = folder / "AndroidManifest.xml"
        manifest.write_text(complete((MAIN / "AndroidManifest.xml").read_text(), here.namespace))
        run("aapt2", "aapt2", "compile", "--dir", MAIN / "res", "-o", folder / "res.zip")
        options = ["-I", FRAMEWORK, "--manifest", manifest, "--java", folder / "java"]
        options += ["--min-sdk-version", here.min_sdk, "--target-sdk-version", here.target_sdk]
        options += ["--version-code", here.version_code, "--version-name", here.version_name]
        assets = ["-A", MAIN / "assets"] if (MAIN / "assets").is_dir() else []
        run("aapt2", "aapt2", "link", "-o", folder / "base.apk", *options, *assets, folder / "res.zip")

    return made("resources", [Path(__file__), SCRIPT, *inputs], [], make)


def complete(manifest: str, package: str) -> str:
    """A manifest with what Gradle's build adds to it: the package, and libraries that are used within the APK."""
    manifest = re.sub(r"<manifest\b", f'<manifest package="{package}"', manifest, count=1)
    return re.sub(r"<application\b", '<application android:extractNativeLibs="false"', manifest, count=1)


def app_dex() -> Path:
    """classes.dex of the whole app."""
    generated = resources()
    r = compile_java("r", sources(generated / "java", ".java"))
    used = [*libraries(), plain_classes()]
    activities = compile_kotlin("demo", sources(SOURCES / ACTIVITIES, ".kt"), [*used, r], android=True)
    return dex([*used, r, activities])


def archive(folder: Path, abi: str, native: list[Path]) -> Path:
    """An APK in `folder` that is neither aligned nor signed: resources, dex, and the `native` libraries of one ABI."""
    apk = folder / "unaligned.apk"
    apk.write_bytes((resources() / "base.apk").read_bytes())
    with zipfile.ZipFile(apk, "a") as file:
        file.write(app_dex(), "classes.dex", zipfile.ZIP_DEFLATED)
        for library in native:  # stored: they are mapped from the APK
            file.write(library, f"lib/{abi}/{library.name}", zipfile.ZIP_STORED)
    return apk
