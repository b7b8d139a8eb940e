"""The app's plain Kotlin on a desktop JVM, against Android's own ExecuTorch library."""

import os
import subprocess
from pathlib import Path

from fedgate.device_runtime.errors import FedgateError

from . import arm64
from .app import app_dex, libraries, plain_classes
from .compile import JDK, compile_java, compile_kotlin, kotlin_jar, sources
from .debian import android_jar
from .dex import undex
from .fetch import KOTLIN, fetch
from .library import native_libraries
from .tools import need

HERE = Path(__file__).parent


def prepare() -> None:
    """Fetch what the harness needs. Raises `FedgateError` with what this machine lacks."""
    need(*JDK)
    fetch(KOTLIN)
    android_jar()
    native_libraries("x86_64")


def classpath(dex: bool = False) -> list[Path]:
    """Classes that a main of harness/ runs with, compiled where they changed: those of the app without Activities.

    dex: the app's classes as they come back from the dex of the APK.
    """
    app = [*libraries(), plain_classes()]
    jvm = compile_java("jvm", sources(HERE / "jvm", ".java"), app)
    mains = compile_kotlin("harness", sources(HERE / "harness", ".kt"), [*app, jvm])
    return [mains, jvm, *([undex(app_dex())] if dex else app), kotlin_jar()]


def command(main: str, *arguments: str, abi: str = "x86_64", dex: bool = False) -> tuple[list[str], dict[str, str]]:
    """The command and the environment that run `main(arguments)`, a class of harness/, in a JVM of its own.

    arm64-v8a: in an arm64 JVM under qemu-user.
    """
    libraries = native_libraries(abi)
    java, environment = ["java"], {**os.environ, "LD_LIBRARY_PATH": str(libraries)}
    if abi == "arm64-v8a":
        java, environment = arm64.java(libraries), dict(os.environ)
    java += ["-XX:+UseSerialGC", "-Xshare:auto", "-Xmx1g", "-XX:ErrorFile=/dev/stderr"]
    java += ["-XX:+UnlockDiagnosticVMOptions", "-XX:-BytecodeVerificationRemote"] if dex else []
    java += [f"-Djava.library.path={libraries}", "-cp", os.pathsep.join(map(str, classpath(dex)))]
    return [*java, "org.fedgate.offline.Launch", main, *map(str, arguments)], environment


def run(main: str, *arguments: str, abi: str = "x86_64", dex: bool = False, timeout: float = 900) -> str:
    """What `main(arguments)` printed. Raises `FedgateError` with its stderr if it failed."""
    words, environment = command(main, *arguments, abi=abi, dex=dex)
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=timeout)
    if done.returncode != 0:
        raise FedgateError(f"{main} failed with status {done.returncode}:\n{done.stderr}")
    return done.stdout
