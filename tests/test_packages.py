"""What a wheel would hold: every package of the tree, and every file beside its code."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def folders():
    """Folders of the stages that hold code, by the name of their package."""
    for stage, top in SETUPTOOLS["package-dir"].items():
        for path in [ROOT / top, *(ROOT / top).rglob("*/")]:
            if path.name != "__pycache__" and any(path.glob("*.py")):
                yield ".".join([stage, *path.relative_to(ROOT / top).parts]), path


def test_every_folder_with_code_is_a_package():
    assert sorted(SETUPTOOLS["packages"]) == sorted(name for name, _ in folders())


def test_every_other_file_goes_along():
    data = SETUPTOOLS["package-data"]
    for name, path in folders():
        listed = {file for pattern in data.get(name, ()) for file in path.glob(pattern)}
        there = {file for file in path.iterdir() if file.is_file() and file.suffix != ".py"}
        assert there - listed == set(), name
