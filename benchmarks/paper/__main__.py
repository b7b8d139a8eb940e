"""`python benchmarks/paper` runs command.py, which says what it asks."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # this folder is a package of that one

from paper.command import main  # noqa: E402

main()
