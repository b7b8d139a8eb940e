"""The JSON that benchmarks write: flat rows with command, machine and versions, and nothing of folders."""

import json
import re
import subprocess
import sys
from pathlib import Path

import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

from result_file import typed  # noqa: E402


def test_the_command_is_told_without_folders_of_this_machine():
    words = [
        "/home/me/fedgate/benchmarks/levels.py",
        "--data",
        "/data/cifar 10",
        "--json",
        "/tmp/a.json",
        "--rounds",
        "2",
    ]
    assert typed(words) == "python benchmarks/levels.py --data 'PATH/TO/cifar 10' --rounds 2"
    assert (
        typed(["levels.py", "--json=/tmp/a.json", "--data=/data/c"]) == "python benchmarks/levels.py --data=PATH/TO/c"
    )
    for script in ("benchmarks/paper", "benchmarks/paper/", "/home/me/fedgate/benchmarks/paper/__main__.py"):
        assert typed([script, "--part", "a"]) == "python benchmarks/paper --part a"
    assert typed(["levels.py", "--data", "digits"]) == "python benchmarks/levels.py --data digits"


def test_a_script_writes_its_command_and_machine_into_its_rows(tmp_path):
    path = tmp_path / "rows.json"
    command = [sys.executable, BENCHMARKS / "update_bytes.py", "--quick", "--density", "0.5", "--json", path]
    subprocess.run(command, check=True, capture_output=True)
    rows = json.loads(path.read_text())
    assert rows and all(list(row)[-3:] == ["command", "machine", "versions"] for row in rows)
    assert {row["command"] for row in rows} == {"python benchmarks/update_bytes.py --quick --density 0.5"}
    assert re.search(r", \d+ cores, .+, Linux$", rows[0]["machine"])
    assert rows[0]["versions"].startswith("CPython 3.") and f"torch {torch.__version__}" in rows[0]["versions"]
    assert all(isinstance(value, str | int | float) for row in rows for value in row.values())
    assert str(tmp_path) not in path.read_text()
