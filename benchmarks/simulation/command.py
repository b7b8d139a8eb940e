"""Client images per second of the local engine against Flower's Ray simulation, with the same client code.

Both train the same clients with `train_locally`, one thread in each of as many processes as there are cores, and
average the weights. A turn is a round of each, one after the other, and the next turn begins with the other; the ratio
is the median over the turns. After the first one, which warms up, both must hold the same weights. Start-up (processes,
imports, Ray) is reported beside it. Flower is installed into build/flower-env at the first time.

    python benchmarks/simulation                            # random images for ResNet-32
    python benchmarks/simulation --data PATH/TO/cifar10
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Listener
from pathlib import Path

import click
import numpy as np
import torch
from result_file import json_option, write_result
from simulation.workload import make

from fedgate.device_runtime.bench.stats import median_interval, paired_ratio
from fedgate.device_runtime.board.machine import OtherLoad, cpu_name
from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.formats.update import decode_update
from fedgate.train.config.resolve import resolve
from fedgate.train.engines.loop import LoopEngine
from fedgate.train.local.client import resolve_precision
from fedgate.train.network.build import network_tensors
from fedgate.train.network.channels import update_spec
from fedgate.train.server.downloads import Broadcast, note_changes
from fedgate.train.server.engine import Task
from fedgate.train.strategies import initial_state, round_step, strategy_of

REPOSITORY = Path(__file__).resolve().parents[2]
FLOWER = "flwr[simulation]>=1.41,<1.42"
START_SECONDS = 180  # for Ray and its actors, on a slow machine


class Local:
    """fedgate's side: rounds of the local engine."""

    def __init__(self, workload, data, parts, cores):
        self.workload = workload
        self.network = workload.network()
        self.spec = update_spec(self.network, "benchmark")
        self.strategy = strategy_of(resolve(clients=workload.clients), self.network)
        self.state, self.clients = initial_state(network_tensors(self.network), self.strategy), {}
        self.engine = LoopEngine(workload.network, data, parts, workload.precision, cores)

    def round(self, turn):
        """Train every client and aggregate; returns seconds."""
        started = time.perf_counter()
        broadcast = Broadcast(self.state, self.spec)
        tasks, updates = [self.task(turn, client, broadcast) for client in range(self.workload.clients)], []
        for result in self.engine.train(tasks):
            updates.append(decode_update(result.blob, broadcast.spec, broadcast.public))
            self.clients[result.client] = result.state
        after, _ = round_step(self.state, updates, self.strategy, broadcast.spec, broadcast.public)
        self.state = note_changes(self.state, after, self.spec, broadcast.public)
        return time.perf_counter() - started

    def task(self, turn, client, broadcast):
        return Task(client, self.workload.plan(turn, client), broadcast, self.clients.get(client, {}))

    def weights(self):
        return self.state.tensors

    def close(self):
        self.engine.close()


class Flower:
    """Flower's side: a process that runs its simulation and does a round when it is asked to."""

    def __init__(self, python, folder, cores):
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "benchmarks"), "OMP_NUM_THREADS": "1"}
        self.log = Path(folder, "flower.log")
        address = str(Path(folder, "socket"))
        with Listener(address) as listener, self.log.open("wb") as log:
            command = [python, "-m", "simulation.flower", folder, address, str(cores)]
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
            listener._listener._socket.settimeout(START_SECONDS)
            try:
                self.pipe = listener.accept()
            except OSError as error:
                self.process.kill()
                raise FedgateError(f"Flower's simulation did not start: {self.last_line()}") from error

    def round(self, turn):
        """Train every client and aggregate; returns the seconds that Flower's process measured."""
        self.pipe.send(turn)
        try:
            seconds, self.arrays = self.pipe.recv()
        except EOFError as error:
            raise FedgateError(f"Flower's simulation ended: {self.last_line()}") from error
        return seconds

    def weights(self):
        return self.arrays

    def last_line(self):
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1] if lines else f"exit status {self.process.poll()}"

    def close(self):
        with contextlib.suppress(OSError):
            self.pipe.send(None)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()


def flower_python():
    """The Python of an environment with Flower and Ray, made where it is missing; it sees this one's packages too."""
    folder = REPOSITORY / "build" / "flower-env"
    python = folder / "bin" / "python"
    if not (folder / ".ready").is_file():
        print(f"installing {FLOWER} into {folder}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        constraints = str(REPOSITORY / "constraints.txt")
        for command in (
            [sys.executable, "-m", "venv", folder],
            [python, "-m", "pip", "--disable-pip-version-check", "install", "-q", "-c", constraints, FLOWER],
        ):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
                raise FedgateError(f"cannot install {FLOWER}: {lines[-1]}")
        # torch and fedgate come from here, its own packages first
        own = next(folder.glob("lib/python*/site-packages"))
        (own / "fedgate.pth").write_text(f"import site; site.addsitedir({str(Path(torch.__file__).parents[1])!r})\n")
        (folder / ".ready").touch()
    return python


def others():
    """Number of cores that are busy while neither side is."""
    load = OtherLoad()
    time.sleep(0.5)
    return load.cores()


def compare(workload, data, parts, folder, python, cores, turns):
    """The row of a workload; python: of Flower's environment, or None without it."""
    made, starts, seconds, busy = {}, {}, {}, []
    with contextlib.ExitStack() as stack:
        for name in ("fedgate", "flower") if python else ("fedgate",):
            started = time.perf_counter()
            side = Local(workload, data, parts, cores) if name == "fedgate" else Flower(python, folder, cores)
            stack.callback(side.close)
            made[name], seconds[name] = side, []
            side.round(0)  # the first brings up workers, imports and caches
            starts[name] = time.perf_counter() - started
        if python:
            check_same(*(side.weights() for side in made.values()))
        for turn in range(1, turns + 1):
            busy.append(others())
            for name in list(made) if turn % 2 else reversed(made):
                seconds[name].append(made[name].round(turn))
    images = workload.images * workload.epochs
    ratio = paired_ratio(seconds["flower"], seconds["fedgate"]) if python else (None,) * 3
    return {
        "workload": workload.name,
        "images_per_second": images / float(np.median(seconds["fedgate"])),
        "flower_images_per_second": images / float(np.median(seconds["flower"])) if python else None,
        **dict(zip(("ratio_to_flower", "ratio_low", "ratio_high"), ratio, strict=True)),
        "clients": workload.clients,
        "images": workload.images,
        "epochs": workload.epochs,
        "batch_size": workload.batch_size,
        "model": workload.model,
        "data": data.name,
        "density": workload.density,
        "precision": workload.precision,
        "turns": turns,
        "processes": cores,
        "threads_each": 1,
        "start_seconds": starts["fedgate"],
        "flower_start_seconds": starts.get("flower"),
        "seconds": seconds["fedgate"],
        "flower_seconds": seconds.get("flower"),
        "other_cores_busy": None if None in busy else median_interval(busy)[0],
        "cpu": cpu_name(),
    }


def check_same(ours, theirs):
    """Refuse to compare sides that trained different things; their averages differ by rounding alone."""
    if ours.keys() != theirs.keys():
        raise FedgateError(f"the two sides hold other tensors: {sorted(ours.keys() ^ theirs.keys())[:3]}")
    for name, value in ours.items():
        error = np.abs(value - theirs[name]).max()
        if not error <= 1e-4 * max(1.0, np.abs(value).max()):
            raise FedgateError(f"the two sides trained different weights: '{name}' differs by {error:.1e}")


def show(row):
    """A row in a few words."""
    flower = "Flower was not run"
    if row["ratio_to_flower"] is not None:
        flower = (
            f"Flower {row['flower_images_per_second']:.0f}; ratio {row['ratio_to_flower']:.2f} "
            f"({row['ratio_low']:.2f} to {row['ratio_high']:.2f})"
        )
    print(
        f"{row['workload']}: {row['images_per_second']:.0f} images a second, {flower}; {row['precision']}, "
        f"{row['processes']} processes of one thread, {row['turns']} turns",
        flush=True,
    )


@click.command()
@click.option("--data", default="random", show_default=True, help="For ResNet-32, as in `fedgate train`, or random.")
@click.option("--clients", default=100, show_default=True, help="That share the digits.")
@click.option("--images", default=256, show_default=True, help="Of each of the ten clients with ResNet-32.")
@click.option("--epochs", default=2, show_default=True, help="Local epochs on digits.")
@click.option("--turns", default=9, show_default=True, help="Rounds of each side.")
@click.option("--workers", default=os.cpu_count(), show_default=True, help="Processes of each side.")
@click.option("--only", type=click.Choice(["digits", "resnet32"]), help="One workload.")
@click.option("--without-flower", is_flag=True, help="Measure fedgate alone.")
@click.option("--quick", is_flag=True, help="Three turns, 32 images a client with ResNet-32.")
@json_option
def main(data, clients, images, epochs, turns, workers, only, without_flower, quick, json_path):
    """Compare the local engine with Flower's Ray simulation."""
    if quick:
        images, turns = min(images, 32), 3
    python = None
    if not without_flower:
        try:
            python = flower_python()
        except FedgateError as error:
            print(f"no ratio to Flower: {error}", flush=True)
    precision = resolve_precision("auto", torch.device("cpu"))
    workloads = {
        "digits": (f"{clients} clients, digits, cnn", "cnn", "digits", clients, 10**9, epochs, 32, precision),
        "resnet32": (f"10 clients, {data}, resnet32", "resnet32", data, 10, 10 * images, 1, 64, precision),
    }
    rows = []
    for key, facts in workloads.items():
        if only in (None, key):
            with tempfile.TemporaryDirectory() as folder:
                made = make(Path(folder), *facts)
                rows.append(compare(*made, folder, python, workers, turns))
            show(rows[-1])
    write_result(json_path, rows)
