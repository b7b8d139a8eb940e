"""Kills a small training run before each of its steps on the disk, resumes it, and compares; prints one JSON line.

python kill_points.py FOLDER [EVERY [KIND]]

Every attempt is a fork of this process, which has imported everything, and dies by SIGKILL before the n-th time that
it opens, makes, renames or removes something: the instants between which a run directory changes. Random instants
seldom hit them. KIND: "plain", or "uneven": clients of several capacities that keep what their codec lost, are late,
vanish and send garbage, and an inbox.
"""

import dataclasses
import hashlib
import json
import os
import shutil
import signal
import sys
from pathlib import Path

from processes import rows

from fedgate.device_runtime.formats.update import decode_update, encode_update
from fedgate.train.commands import run_training
from fedgate.train.config.resolve import resolve
from fedgate.train.engines.make import open_run
from fedgate.train.ingredients import describe_run, prepare
from fedgate.train.server.run_directory import RunDirectory

STEPS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"}
PLAIN = {"clients": 2, "rounds": 3, "local_epochs": 1, "batch_size": 256, "density": (0.5, 1.0)}
UNEVEN = PLAIN | {
    "clients": 5,
    "density_schedule": 0.0,
    "capacity": "0.5:0.6,1.0:0.4",
    "fraction_train": 0.8,
    "speed_spread": "1",
    "wait_for": 2,
    "drop_out": 0.2,
    "garbage": 0.2,
    "max_staleness": 1,
    "algorithm": "fednova",
    "server_optimizer": "momentum",
    "codec": "int8",
    "download_codec": "int8",
    "seed": 3,
}


def begin(run, options):
    """What a run starts with, beside its options: nothing, or an inbox with letters to its first state."""
    if "wait_for" not in options:
        return
    inbox = run.parent / "in"
    inbox.mkdir(parents=True)
    config = resolve(**options, inbox=str(inbox))
    data, parts = prepare(config)
    with open_run(RunDirectory.create(run, describe_run(config, data)), data, parts) as first:
        start = first.start().broadcast
        update = decode_update(start.blob(None), start.spec)
        for name, client, steps in (("a", 7, 1), ("b", 7, 2), ("c", 8, 3)):  # b has to wait for the second round
            sent = dataclasses.replace(update, client=client, examples=50, local_steps=steps)
            signed = first.senders.key(client).sign(encode_update(sent, start.spec))
            (inbox / f"{name}.safetensors").write_bytes(signed)
    (inbox / "bad.safetensors").write_bytes(b"no update")
    (inbox / "half.part").write_bytes(b"half")


def attempt(run, options, kill_before=None):
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
            run_training(None if known else run, run if known else None, quiet=True, options={} if known else options)
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
    """The model, the rows, and the files of the inbox: none may be lost."""
    inbox = {str(path.relative_to(run.parent)) for path in run.parent.glob("in/**/*") if path.is_file()}
    return hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest(), rows(run), inbox


def main(folder, every=1, kind="plain"):
    folder, options = Path(folder), {"plain": PLAIN, "uneven": UNEVEN}[kind]
    start, run = folder / "start", folder / "here" / "run"
    begin(run, options)  # the inbox has an absolute path, so every attempt is made in the same place
    run.parent.mkdir(exist_ok=True)
    run.parent.rename(start)
    run_training(folder / "imports", None, quiet=True, options=PLAIN | {"rounds": 1})
    shutil.copytree(start, run.parent)
    steps = attempt(run, options)
    wanted, wrong, kills = result(run), [], 0
    for step in range(0, steps, every):
        shutil.rmtree(run.parent)
        shutil.copytree(start, run.parent)
        kills += attempt(run, options, step) is None
        attempt(run, options)
        if result(run) != wanted:
            wrong.append(step)
    seen = sorted({row["status"] for row in wanted[1] if row["client"] is not None})
    print(json.dumps({"steps": steps, "kills": kills, "wrong": wrong, "statuses": seen, "inbox": sorted(wanted[2])}))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:3]), *sys.argv[3:])
