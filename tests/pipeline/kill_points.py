"""Kills a small training run before each of its steps on the disk, resumes it, and compares; prints one JSON line.

python kill_points.py FOLDER [EVERY]

Every attempt is a fork of this process, which has imported everything, and dies by SIGKILL before the n-th time that
it opens, makes, renames or removes something: the instants between which a run directory changes. Random instants
seldom hit them.
"""

import hashlib
import json
import os
import shutil
import signal
import sys
from pathlib import Path

from processes import rows

from fedgate.train.session import run_training

STEPS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"}
OPTIONS = {"clients": 2, "rounds": 3, "local_epochs": 1, "batch_size": 256, "density": (0.5, 1.0)}


def attempt(run, kill_before=None):
    """Start or continue a run in a forked process; returns how many steps it made, or None if it was killed."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            steps = 0

            def count(event, arguments):
                nonlocal steps
                inside = event in STEPS and (event != "open" or str(arguments[0]).startswith(str(run.parent)))
                if inside:
                    if steps == kill_before:
                        os.kill(os.getpid(), signal.SIGKILL)
                    steps += 1

            sys.addaudithook(count)
            known = run.exists()
            run_training(None if known else run, run if known else None, quiet=True, options={} if known else OPTIONS)
            os.write(writer, str(steps).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    _, status = os.waitpid(pid, 0)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    if os.WIFSIGNALED(status):
        return None
    assert os.WEXITSTATUS(status) == 0, "an attempt failed; its reason is above"
    return int(text)


def result(run):
    return hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest(), rows(run)


def main(folder, every=1):
    folder = Path(folder)
    run_training(folder / "first", None, quiet=True, options=OPTIONS)  # imports; also the reference
    wanted = result(folder / "first")
    steps = attempt(folder / "steps" / "run")
    assert result(folder / "steps" / "run") == wanted
    wrong, kills = [], 0
    for step in range(0, steps, every):
        run = folder / "killed" / "run"
        kills += attempt(run, step) is None
        attempt(run)
        if result(run) != wanted:
            wrong.append(step)
        shutil.rmtree(run.parent)
    print(json.dumps({"steps": steps, "kills": kills, "wrong": wrong}))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
