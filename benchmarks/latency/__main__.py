"""`python benchmarks/latency` runs command.py, which says what it measures."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # this folder is a package of that one

from latency.command import main  # noqa: E402

main()
