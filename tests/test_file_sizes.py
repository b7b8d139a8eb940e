"""No source file needs a table of contents."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SUFFIXES = {".py", ".cpp", ".h", ".kt", ".kts"}
MOST_LINES = 300


def source_files():
    done = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip("not a checkout of git")
    names = [name for name in done.stdout.split("\0") if Path(name).suffix in SUFFIXES]
    return [name for name in names if (ROOT / name).is_file()]  # deleted ones stay listed until they are committed


def test_no_source_file_is_long():
    lengths = {name: len((ROOT / name).read_text().splitlines()) for name in source_files()}
    assert len(lengths) > 500
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}
