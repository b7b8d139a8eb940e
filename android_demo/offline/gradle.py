"""What the offline build takes from the Gradle project: the one place where the app's name and versions stand."""

import re
from dataclasses import dataclass
from pathlib import Path

from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.storage import read_file

MODULE = Path(__file__).parents[1] / "app"
SCRIPT = MODULE / "build.gradle.kts"


@dataclass(frozen=True)
class Project:
    """Fields of app/build.gradle.kts."""

    namespace: str
    application_id: str
    min_sdk: int
    target_sdk: int
    version_code: int
    version_name: str
    abis: tuple[str, ...]


def gradle() -> Project:
    """The app's."""
    return project(SCRIPT)


def project(script: Path) -> Project:
    """The fields of a Gradle script in Kotlin. Raises `FedgateError` that names what is missing there."""
    text = read_file(script).decode()

    def field(pattern: str, name: str) -> str:
        found = re.search(pattern, text, re.MULTILINE)
        if found is None:
            raise FedgateError(f"{script} sets no {name}")
        return found[1]

    def word(name: str) -> str:
        return field(rf'^\s*{name}\s*=\s*"([^"]+)"', name)

    def number(name: str) -> int:
        return int(field(rf"^\s*{name}\s*=\s*(\d+)", name))

    abis = re.findall(r'"([^"]+)"', field(r"^\s*abiFilters\s*\+=\s*listOf\(([^)]*)\)", "abiFilters"))
    return Project(
        word("namespace"),
        word("applicationId"),
        number("minSdk"),
        number("targetSdk"),
        number("versionCode"),
        word("versionName"),
        tuple(abis),
    )
