"""Java and Kotlin compiled for Android: class files of Java 8, made again when a source has changed."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from .debian import android_jar
from .fetch import KOTLIN, fetch
from .tools import need, run, tell

BUILD = Path(__file__).parents[2] / "build" / "android"
JDK = (("java", "default-jdk-headless"), ("javac", "default-jdk-headless"))
# A compiler that runs once is done before the best code for it would be.
SHORT = ("-Xshare:auto", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
# dx knows neither lambdas nor string concatenation by invokedynamic.
FOR_DX = ("-jvm-target", "1.8", "-Xlambdas=class", "-Xsam-conversions=class", "-Xstring-concat=inline")


def kotlin_jar(name: str = "kotlin-stdlib") -> Path:
    return fetch(KOTLIN) / "package" / "lib" / f"{name}.jar"


def sources(folder: Path, suffix: str, without: Iterable[str] = ()) -> list[Path]:
    """All files of a suffix below a folder, but those below its subfolders `without`, in a fixed order."""
    found = sorted(folder.rglob(f"*{suffix}"))
    return [path for path in found if path.relative_to(folder).parts[0] not in set(without)]


def compile_java(name: str, files: list[Path], classpath: Iterable[Path] = ()) -> Path:
    """The folder of the classes of Java `files`, in BUILD / name. `FedgateError` with the compiler's first error."""
    need(*JDK)
    classpath = list(classpath)

    def make(folder: Path) -> None:
        flags = ["-nowarn", "-Xlint:none", "-encoding", "UTF-8", "--release", "8", "-proc:none"]
        path = ["-classpath", os.pathsep.join(map(str, classpath))] if classpath else []
        run("javac", "javac", *map("-J{}".format, SHORT), *flags, *path, "-d", folder, *files)

    return made(name, files, classpath, make)


def compile_kotlin(name: str, files: list[Path], classpath: Iterable[Path], android: bool = False) -> Path:
    """The folder of the classes of Kotlin `files`, in BUILD / name. `FedgateError` with the compiler's first error.

    android: against the classes of Android 6 instead of the JDK's, so that what the oldest phone lacks is an error.
    """
    need(*JDK)
    classpath = [kotlin_jar(), *([android_jar()] if android else []), *classpath]

    def make(folder: Path) -> None:
        tell(f"kotlinc: {name}")
        compiler = ["java", *SHORT, "-Xmx1g", "-cp", os.pathsep.join(map(str, kotlin_jar().parent.glob("*.jar")))]
        compiler += ["org.jetbrains.kotlin.cli.jvm.K2JVMCompiler", "-kotlin-home", kotlin_jar().parent.parent]
        flags = ["-no-stdlib", "-no-reflect", *(["-no-jdk"] if android else [])]
        path = ["-classpath", os.pathsep.join(map(str, classpath))]
        run("kotlinc", *compiler, *FOR_DX, *flags, *path, "-d", folder, *files)

    return made(name, files, classpath, make)


def made(name: str, files: list[Path], classpath: list[Path], make: Callable[[Path], None]) -> Path:
    """BUILD / name, filled by `make` again unless it is of these files, of this classpath and of this module."""
    folder = BUILD / name
    marker = BUILD / f"{name}.recipe"
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for path in files:
        digest.update(f"{path}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    for path in classpath:
        # a folder of classes changes with the recipe beside it, and a package never
        recipe = path.with_name(f"{path.name}.recipe")
        digest.update(f"{path}\0{recipe.read_text() if recipe.is_file() else ''}\0".encode())
    if folder.is_dir() and marker.is_file() and marker.read_text() == digest.hexdigest():
        return folder
    marker.unlink(missing_ok=True)
    BUILD.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=BUILD))
    try:
        make(work)
        shutil.rmtree(folder, ignore_errors=True)
        work.chmod(0o755)
        work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    marker.write_text(digest.hexdigest())
    return folder
