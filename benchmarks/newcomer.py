"""From a fresh clone to a table of one's own bundle: how long a newcomer waits.

The repository is cloned into an empty folder, with an empty cache but pip's own, and set up there; then `make demo
DATA=...` runs on a folder of pictures by class, which are taken from --data. A row for each step:

    step          clone, setup (`make setup`) and demo
    seconds       by the clock
    cpu_seconds   of all its processes: what it would take at least on one idle core
    load          of the machine at its end: processes that want to run, others' too

--quick runs `fedgate demo` in this environment, on a few pictures, and nothing else.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
from PIL import Image
from result_file import json_option, write_result

from fedgate.device_runtime.tables import console, table
from fedgate.train.data.load import load_data

ROOT = Path(__file__).parents[1]


@click.command()
@click.option("--data", default="digits", show_default=True, help="Where the pictures come from, as in fedgate train.")
@click.option("--classes", type=click.IntRange(2), default=5, show_default=True, help="How many classes of them.")
@click.option("--each", type=click.IntRange(5), default=200, show_default=True, help="Pictures of each class.")
@click.option("--quick", is_flag=True, help="No clone, no set-up, 20 pictures a class and a round.")
@json_option
def main(data, classes, each, quick, json_path):
    """Time a newcomer's way from a clone to a table of their own bundle."""
    each = 20 if quick else each
    rows = []
    with tempfile.TemporaryDirectory(prefix="fedgate-newcomer-") as top:
        top = Path(top)
        clone = top / "fedgate"
        (top / "cache").mkdir()
        cache = os.environ.get("PIP_CACHE_DIR", str(Path.home() / ".cache" / "pip"))
        environment = os.environ | {"XDG_CACHE_HOME": str(top / "cache"), "PIP_CACHE_DIR": cache}
        if quick:
            write_pictures(top / "photos", data, classes, each)
            command = [sys.executable, "-m", "fedgate", "demo", "--data", "photos", "--rounds", "1"]
            rows.append(step("demo", command, top, environment))
        else:
            rows.append(step("clone", ["git", "clone", "-q", str(ROOT), str(clone)], top, environment))
            write_pictures(clone / "photos", data, classes, each)
            rows.append(step("setup", ["make", "setup"], clone, environment))
            rows.append(step("demo", ["make", "demo", "DATA=photos"], clone, environment))
    for row in rows:
        row |= {"pictures": classes * each, "classes": classes}
    made = table("step", "seconds", "CPU seconds", "load", right=3)
    for row in rows:
        made.add_row(row["step"], *(f"{row[key]:.1f}" for key in ("seconds", "cpu_seconds", "load")))
    console().print(made)
    write_result(json_path, rows)


def write_pictures(folder, data, classes, each):
    """The first `each` training images of the first classes, as folder/CLASS/NUMBER.png."""
    images = load_data(data)
    for label in range(classes):
        place = folder / images.labels[label]
        place.mkdir(parents=True)
        for index in (images.train_labels == label).nonzero()[:each, 0].tolist():
            pixels = images.train_images[index].permute(1, 2, 0).numpy()
            Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(place / f"{index:05}.png")


def step(name, command, folder, environment):
    """Run a command, its output on the terminal; returns its row."""
    before, started = cpu_seconds(), time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment)
    if done.returncode != 0:
        raise click.ClickException(f"{' '.join(command)} ended with {done.returncode}")
    seconds = time.perf_counter() - started
    return {
        "step": name,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu_seconds() - before, 1),
        "load": round(os.getloadavg()[0], 1),
    }


def cpu_seconds():
    """Of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
