"""The app's plain Kotlin on a desktop JVM, against Android's own ExecuTorch library."""

import os
import subprocess
from pathlib import Path

from fedgate.device_runtime.errors import FedgateError

from .compile import JDK, compile_java, compile_kotlin, kotlin_jar, sources
from .fetch import EXECUTORCH, KOTLIN, fetch, need
from .library import native_libraries

HERE = Path(__file__).parent
APP = HERE.parent / "app" / "src" / "main" / "kotlin" / "org" / "fedgate"
ACTIVITIES = "demo"  # the one package of the app that knows Android


def prepare() -> None:
    """Fetch what the harness needs. Raises `FedgateError` with what this machine lacks."""
    need(*JDK)
    fetch(KOTLIN)
    native_libraries("x86_64")


def classpath() -> list[Path]:
    """Classes that a main of harness/ runs with, compiled where they changed: those of the app without Activities."""
    executorch = fetch(EXECUTORCH) / "package" / "android" / "libs" / "classes.jar"
    native = compile_java("jni", sources(HERE / "jni", ".java"))
    jvm = compile_java("jvm", sources(HERE / "jvm", ".java"), [native])
    app = [executorch, native, jvm]
    plain = sources(APP, ".kt", without=[ACTIVITIES])
    if plain:
        app = [compile_kotlin("app", plain, app), *app]
    mains = compile_kotlin("harness", sources(HERE / "harness", ".kt"), app)
    return [mains, *app, kotlin_jar()]


def command(main: str, *arguments: str, abi: str = "x86_64") -> tuple[list[str], dict[str, str]]:
    """The command and the environment that run `main(arguments)`, a class of harness/, in a JVM of its own."""
    libraries = native_libraries(abi)
    java = ["java", "-XX:+UseSerialGC", "-Xshare:auto", "-Xmx1g", f"-Djava.library.path={libraries}"]
    java += ["-cp", os.pathsep.join(map(str, classpath())), "org.fedgate.offline.Launch", main, *map(str, arguments)]
    return java, {**os.environ, "LD_LIBRARY_PATH": str(libraries)}


def run(main: str, *arguments: str, timeout: float = 300) -> str:
    """What `main(arguments)` printed. Raises `FedgateError` with its stderr if it failed."""
    words, environment = command(main, *arguments)
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=timeout)
    if done.returncode != 0:
        raise FedgateError(f"{main} failed with status {done.returncode}:\n{done.stderr}")
    return done.stdout
