"""Class files to the dex that a phone runs, and that dex turned back into class files for a JVM."""

import os
import struct
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path

from .classes import JAVA_8, digestible, reachable
from .compile import SHORT, kotlin_jar, made
from .debian import ENJARIFY, dx_jar, unpacked
from .fetch import EXECUTORCH, fetch
from .gradle import SCRIPT, gradle
from .tools import run, tell

# Transcription and language models: of Java 11 in what they call, and nothing of the app's.
UNUSED = "org/pytorch/executorch/extension/asr/"


def executorch_classes() -> Path:
    """The folder of ExecuTorch's classes, as of Java 8."""
    jar = fetch(EXECUTORCH) / "package" / "android" / "libs" / "classes.jar"

    def make(folder: Path) -> None:
        for name, data in _classes(jar).items():
            if not name.startswith(UNUSED):
                file = folder / f"{name}.class"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(digestible(data))

    return made("executorch", [Path(__file__), jar], [], make)


def dex(folders: Iterable[Path]) -> Path:
    """classes.dex of all classes in `folders`, and of what they use of Kotlin's standard library."""
    folders = list(folders)

    def make(folder: Path) -> None:
        ours = {name: data for source in folders for name, data in _classes(source).items()}
        library = {name: data for name, data in _classes(kotlin_jar()).items() if not name.startswith("META-INF/")}
        kept = sorted(reachable(library | ours, ours))
        tell(f"dx: {len(ours)} classes and {len(kept) - len(ours)} of Kotlin's library")
        jar = folder / "classes.jar"
        with zipfile.ZipFile(jar, "w") as archive:
            for name in kept:
                archive.writestr(f"{name}.class", ours.get(name) or library[name])
        dx = ["java", *SHORT, "-Xmx1g", "-cp", dx_jar(), "com.android.dx.command.Main", "--dex"]
        run("dx", *dx, f"--min-sdk-version={gradle().min_sdk}", f"--output={folder / 'classes.dex'}", jar)

    return made("dex", [Path(__file__), SCRIPT], [*folders, kotlin_jar()], make) / "classes.dex"


def undex(file: Path) -> Path:
    """A jar of the classes in a dex file, to be run unverified: some of the types that enjarify infers are too wide."""

    def make(folder: Path) -> None:
        tell("enjarify: the dex turned back")
        tool = unpacked(ENJARIFY) / "usr" / "lib" / "python3" / "dist-packages"
        command = [sys.executable, "-O", "-m", "enjarify.main", file, "-o", folder / "old.jar"]
        run("enjarify", *command, env={**os.environ, "PYTHONPATH": str(tool)})
        with zipfile.ZipFile(folder / "classes.jar", "w") as archive:
            for name, data in _classes(folder / "old.jar").items():
                # written as of Java 5, in which an interface has no static methods
                archive.writestr(f"{name}.class", data[:4] + struct.pack(">HH", 0, JAVA_8) + data[8:])

    return made("undex", [Path(__file__), file], [], make) / "classes.jar"


def _classes(source: Path) -> dict[str, bytes]:
    """The class files of a jar or folder by name ("a/b/C")."""
    if source.is_dir():
        return {str(path.relative_to(source))[:-6]: path.read_bytes() for path in sorted(source.rglob("*.class"))}
    with zipfile.ZipFile(source) as archive:
        return {name[:-6]: archive.read(name) for name in sorted(archive.namelist()) if name.endswith(".class")}
