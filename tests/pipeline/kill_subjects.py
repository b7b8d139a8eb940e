"""The commands that `kills.py` kills: what each works on, how it is given again, and what it must leave."""

import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from processes import fedgate, rows

TESTS = Path(__file__).parents[1]
TRAINING = ("--clients", "3", "--local-epochs", "1", "--density", "0.5", "--quiet")


@dataclass
class Subject:
    """A command that can be killed. first, again: its words in a place, a new one and one where it was killed; result:
    what it left there, by name. finished: what it says of a place where it had ended. environment: of its process."""

    name: str
    first: Callable
    again: Callable
    result: Callable
    finished: str | None = None
    environment: dict = field(default_factory=dict)
    clear: Callable = lambda place: None


def training(folder):
    def first(place):
        return ["train", *TRAINING, "--rounds", 6, "--workers", 1 + place_number(place) % 2, "--out", place / "run"]

    def again(place):
        resumed = ["train", "--resume", place / "run", "--quiet", "--workers", 1 + place_number(place) % 2]
        return resumed if (place / "run").exists() else first(place)

    def result(place):
        run = place / "run"
        found = {"model.safetensors": digest(run / "model.safetensors"), "metrics.jsonl": text_digest(rows(run))}
        for path in sorted((run / "checkpoints").glob("*/*.safetensors")):
            if path.name != "state.safetensors":  # which holds the run's own name
                found[str(path.relative_to(run))] = digest(path)
        return found | {"beside": beside(place, {"run"}) + beside(run / "checkpoints", kept(run))}

    return Subject("train", first, again, result)


def kept(run):
    """The names of the checkpoints that a finished run of six rounds has."""
    return {"round-00005", "round-00006"}


def exporting(folder):
    """To ONNX; every second place holds an older bundle of the same name, which is replaced."""

    def first(place):
        words = ["export", folder / "run", "--to", "onnx", "--out", place / "b.fedgate"]
        if place_number(place) % 2:
            words.append("--overwrite")
            if not (place / "b.fedgate").exists() and not any(place.iterdir()):
                shutil.copytree(folder / "older.fedgate", place / "b.fedgate")
        return words

    def result(place):
        bundle = place / "b.fedgate"
        found = {path.name: digest(path) for path in sorted(bundle.iterdir())}
        return found | {"beside": beside(place, {"b.fedgate"})}

    return Subject("export", first, first, result, "choose another --out, or replace it")


def tuning(folder):
    def first(place):
        options = ["--epochs", 4, "--client", 2, "--lr", 0.05, "--patience", 9]
        return ["finetune", folder / "tail.fedgate", "--data", folder / "photos", "--out", place / "out", *options]

    def result(place):
        found = {path.name: digest(path) for path in sorted((place / "out").iterdir())}
        return found | {"beside": beside(place, {"out"})}

    return Subject("finetune", first, first, result, "holds a finished fine-tuning")


def other_tests(*path):
    """A module of other tests, which need not be on Python's path."""
    spec = importlib.util.spec_from_file_location(f"kills_{path[-1]}", TESTS.joinpath(*path).with_suffix(".py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


loopback = other_tests("device_runtime", "targets", "loopback")


@contextlib.contextmanager
def deploying(folder):
    reason = loopback.why_not()
    if reason:
        raise SystemExit(f"no deploy here: {reason}")
    packages = next((other_tests("conftest").make("litert") / "lib").glob("python3*")) / "site-packages"
    with loopback.device(packages) as device:
        environment = {"PATH": f"{device.path}:{os.environ['PATH']}", "FEDGATE_TARGET_PYTHON": device.python}

        def first(place):
            return ["deploy", folder / "tail.fedgate", "--target", device.target]

        def result(place):
            found = {}
            for top in device.copies():
                if top.startswith("bundle-"):
                    for path in sorted(p for p in (device.cache / top).rglob("*") if p.is_file()):
                        found[f"{top}/{path.relative_to(device.cache / top)}"] = digest(path)
            return found | {"folders": device.copies(), "beside": device.parts()}

        def clear(place):
            shutil.rmtree(device.cache, ignore_errors=True)

        yield Subject("deploy", first, first, result, None, environment, clear)


def place_number(place):
    return int(place.name)


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def text_digest(value):
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def beside(folder, expected):
    """What lies in a folder that should not."""
    return sorted(path.name for path in folder.iterdir() if path.name not in expected)


def make_inputs(folder):
    """What the commands work on, where it is not there yet: a run, a bundle that trains, pictures, an older bundle."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    for words in (
        ["train", *TRAINING, "--rounds", 2, "--out", folder / "run"],
        ["train", *TRAINING, "--rounds", 1, "--out", folder / "young"],
        ["export", folder / "run", "--to", "litert", "--trainable", "head", "--out", folder / "tail.fedgate"],
        ["export", folder / "young", "--to", "onnx", "--out", folder / "older.fedgate"],
    ):
        if not words[-1].exists():
            done = fedgate(*words)
            assert done.returncode == 0, done.stderr
    digits = load_digits()
    for i in range(200):
        (folder / "photos" / str(digits.target[i])).mkdir(parents=True, exist_ok=True)
        image = np.rint(digits.images[i] * (255 / 16)).astype(np.uint8)
        Image.fromarray(image).save(folder / "photos" / str(digits.target[i]) / f"{i}.png")


@contextlib.contextmanager
def subject(kind, folder):
    if kind == "deploy":
        with deploying(folder) as made:
            yield made
    else:
        yield {"train": training, "export": exporting, "finetune": tuning}[kind](folder)
