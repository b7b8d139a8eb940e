"""Kills real commands at random instants, gives them again, and compares what they leave with an undisturbed one's.

python tests/pipeline/kills.py [--kills 1000] [--kinds train,export,finetune,deploy] [--seed 0] [--json FILE]

Each trial is a fresh place, in which a command is killed one to four times in a row, with SIGKILL to its whole process
group, at instants that are uniform over the time that an undisturbed one takes; then it runs to its end. It must leave
the same bytes, nothing beside them, and no process. deploy needs what `loopback.py` needs.
"""

import contextlib
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
from kill_subjects import beside, make_inputs, subject
from processes import COMMAND, ENVIRONMENT, survivors

KINDS = ("train", "export", "finetune", "deploy")
LIMIT = 600  # seconds that a command may take to its end


class Trials:
    """One subject, killed again and again."""

    def __init__(self, subject, folder, seed):
        """folder: where its places are made, numbered."""
        self.subject, self.folder, self.seed = subject, folder, seed
        self.temporary = folder / "tmp"
        self.wanted, self.seconds = {}, math.inf
        for number in (0, 1):  # even and odd places differ in what they begin with
            place = self.place(number)
            started = time.perf_counter()
            self.finish(self.start(subject.first(place)))
            self.seconds = min(self.seconds, time.perf_counter() - started)
            self.wanted[number] = subject.result(place)
            assert self.wanted[number]["beside"] == [], self.wanted[number]
            shutil.rmtree(place)
        self.temporaries = set(beside(self.temporary, set()))

    def place(self, number):
        place = self.folder / str(number)
        place.mkdir(parents=True)
        self.temporary.mkdir(exist_ok=True)
        self.subject.clear(place)
        return place

    def start(self, words):
        environment = ENVIRONMENT | self.subject.environment | {"TMPDIR": str(self.temporary)}
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            [*COMMAND, *map(str, words)], env=environment, start_new_session=True, cwd=self.folder, **pipes
        )

    def finish(self, process, killed=False):
        """Wait for a command's end. killed: it may have come to its end before."""
        err = process.communicate(timeout=LIMIT)[1].decode(errors="replace")
        had_ended = killed and self.subject.finished and self.subject.finished in err
        assert process.returncode == (2 if had_ended else 0), f"it ended with {process.returncode}: {err}"

    def trial(self, number):
        """Kill a command in place `number`, and let it end: a row."""
        place, instants, wrong = self.place(number), [], []
        try:
            self.kill(place, random.Random(f"{self.seed} {self.subject.name} {number}"), instants)
            found, wanted = self.subject.result(place), self.wanted[number % 2]
            wrong += [name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name)]
            wrong += found["beside"]
        except (AssertionError, OSError, subprocess.TimeoutExpired) as error:
            wrong.append(str(error))
        if not wrong:
            shutil.rmtree(place)
        row = {"kind": self.subject.name, "seed": self.seed, "number": number, "kills": len(instants)}
        left = set(beside(self.temporary, set())) - self.temporaries
        return row | {"instants": instants, "seconds": round(self.seconds, 3), "wrong": wrong, "left": sorted(left)}

    def kill(self, place, chance, instants):
        """Kill a command at random `instants`, which are told to the list, and give it again to its end."""
        words = self.subject.first(place)
        for _ in range(chance.randint(1, 4)):
            process, started = self.start(words), time.perf_counter()
            instant = chance.random() * self.seconds
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(instant)
                if not instants:
                    self.seconds = time.perf_counter() - started  # it is faster now: the machine has less to do
                return self.finish(process, killed=bool(instants))
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            instants.append(round(instant, 3))
            assert survivors(process.pid) == []
            words = self.subject.again(place)
        return self.finish(self.start(words), killed=True)


def run_trials(kinds, kills, seed, folder, say=print):
    """Kill each kind's command until there were `kills` of them in all: rows, one a trial."""
    make_inputs(folder)
    found = []
    with contextlib.ExitStack() as stack:
        trials = {
            kind: Trials(stack.enter_context(subject(kind, folder)), folder / f"places-{kind}", seed) for kind in kinds
        }
        number = 2
        while sum(row["kills"] for row in found) < kills:
            for kind in kinds:
                found.append(trials[kind].trial(number))
                say(json.dumps(found[-1]))
            number += 1
    return found


def totals(found):
    """A row a kind."""
    lines = []
    for kind in dict.fromkeys(row["kind"] for row in found):
        mine = [row for row in found if row["kind"] == kind]
        lines.append(
            {
                "kind": kind,
                "seed": mine[0]["seed"],
                "kills": sum(row["kills"] for row in mine),
                "trials": len(mine),
                "seconds": mine[0]["seconds"],
                "wrong": sum(bool(row["wrong"]) for row in mine),
                "left": len(mine[-1]["left"]),
            }
        )
    return lines


@click.command()
@click.option("--kills", type=click.IntRange(1), default=1000, show_default=True, help="In all.")
@click.option("--kinds", default=",".join(KINDS), show_default=True, help="Of commands.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the instants.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False), help="Write every trial here.")
@click.option("--keep", type=click.Path(), help="Work in this folder; inputs and failures stay there.")
def main(kills, kinds, seed, json_path, keep):
    """Kill commands at random instants and compare what they leave."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the device of deploy goes too
    folder = Path(keep).absolute() if keep else Path(tempfile.mkdtemp(prefix="kills-"))
    folder.mkdir(exist_ok=True)
    try:
        found = run_trials(kinds.split(","), kills, seed, folder, lambda line: print(line, flush=True))
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    for row in totals(found):
        print(json.dumps(row))
    if json_path:
        Path(json_path).write_text("[\n" + ",\n".join(map(json.dumps, found)) + "\n]\n")
    sys.exit(any(row["wrong"] for row in found))


if __name__ == "__main__":
    main()
