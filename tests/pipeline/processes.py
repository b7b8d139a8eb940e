"""Real `fedgate` processes for the tests: start, interrupt and watch them."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

# Seconds on one core, most of them imports.
SMALL = ("--clients", "4", "--rounds", "5", "--local-epochs", "1", "--density", "0.5", "--quiet")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
COMMAND = (sys.executable, "-m", "fedgate")


def fedgate(*arguments, **options):
    """Run a command to its end."""
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=900, **options)


def start(*arguments):
    """Start a command as the leader of a session of its own, as a terminal would."""
    command = [*COMMAND, *map(str, arguments)]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=ENVIRONMENT, start_new_session=True, **pipes)


def survivors(session, seconds=10.0):
    """The processes of a session that are still there after up to `seconds`: [(pid, command line)]."""
    deadline = time.monotonic() + seconds
    while (found := members(session)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def members(session):
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, _, _, of = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
                if int(of) == session and state not in "ZX":  # a zombie only waits to be counted
                    found.append((int(entry.name), (entry / "cmdline").read_text().replace("\0", " ")))
            except OSError:  # it ended meanwhile
                continue
    return found


CLOCKED = ("seconds", "cpu_seconds", "images_per_cpu_second")


def rows(run):
    """metrics.jsonl of a run, without what a clock says."""
    lines = [json.loads(line) for line in (Path(run) / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in CLOCKED} for line in lines]
