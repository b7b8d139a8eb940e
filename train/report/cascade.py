"""What a cascade of runs is worth: thresholds from the images that clients held out, judged on the test images.

Each client runs the stages over its held-out images and gives counts (`device_runtime.cascades.counts`); the server
adds them up and picks thresholds from them, and sees no image. The test images are looked at once, with those.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fedgate.device_runtime.cascades.counts import MOST_STAGES, add, count, decode, encode
from fedgate.device_runtime.cascades.points import FEW_IMAGES, pick
from fedgate.device_runtime.cascades.scores import SCORES, scores
from fedgate.device_runtime.errors import UsageError, choose
from fedgate.device_runtime.formats import macs
from fedgate.device_runtime.formats.tensors import tensors_hash
from fedgate.device_runtime.tables import console, table

from ..data.augment import normalise
from ..ingredients import client_images, make_network, run_data
from ..local.evaluation import CHUNK, executed_macs
from ..server.run_directory import RunDirectory

LEVELS = "levels"
SAME = ("clients", "partition", "group", "seed", "holdout", "image_size")  # decide which images are held out


@dataclass(frozen=True)
class Stage:
    """A network of a run at one of its levels. name: how a table calls it; tensors: by which it is told from others."""

    name: str
    directory: RunDirectory
    level: int
    network: object
    sha256: str


def evaluate_cascade(path, smalls, kind="probability", losses=(0.0, 0.005, 0.01), moved=None) -> dict:
    """A cascade of runs, the last of them that in `path`, as a JSON-ready dict.

    smalls: paths of smaller runs in any order, or "levels", for the levels of the one run. losses: allowed losses of
    accuracy, as shares. Raises `UsageError` for runs that do not go together and for an empty hold-out.
    """
    choose("score", kind, SCORES)
    stages = level_stages(path) if smalls == LEVELS else run_stages([*smalls, path])
    info = stages[-1].directory.info
    data, _ = run_data(info, moved)
    _, held = client_images(info.config, data)
    if not sum(map(len, held)):
        raise UsageError(f"{path} holds out no images to calibrate by: train with --holdout 0.1")
    every, labels = np.sort(np.concatenate(held)), data.train_labels.numpy()
    seen = [run_stage(stage, data.train_images[every]) for stage in stages]
    cascade = tensors_hash({f"{i}": np.frombuffer(s.sha256.encode(), np.uint8) for i, s in enumerate(stages)})
    tables = []
    for client, own in enumerate(held):
        rows = np.searchsorted(every, own)
        blob = encode(count([x[rows] for x, _ in seen], labels[own], kind), len(stages), kind, cascade, client)
        tables.append(decode(blob, len(stages), kind, cascade, len(own))[1])
    costs = [float(work.mean()) for _, work in seen]
    points = pick(add(tables), costs, losses)
    tested = [run_stage(stage, data.test_images) for stage in stages]
    truth = data.test_labels.numpy()
    right = np.stack([logits.argmax(1) == truth for logits, _ in tested])
    return {
        "run": str(path),
        "score": kind,
        "stages": [
            {"name": s.name, "accuracy": float(r.mean()), "macs": float(work.mean())}
            for s, r, (_, work) in zip(stages, right, tested, strict=True)
        ],
        "held_out": len(every),
        "few": len(every) < FEW_IMAGES,
        "test_images": len(truth),
        "points": [judged(point, tested, right, kind) for point in points],
    }


def judged(point, tested, right, kind):
    """An operating point on the test images, beside what was expected of it."""
    logits, work = zip(*tested, strict=True)
    going, answered, spent = np.ones(right.shape[1], bool), [], np.zeros(right.shape[1])
    hits = np.zeros(right.shape[1], bool)
    for k in range(len(logits)):
        spent += going * work[k]
        sure = going if k == len(logits) - 1 else going & (scores(logits[k], kind) >= np.float32(point.thresholds[k]))
        hits |= sure & right[k]
        answered.append(float(sure.mean()))
        going = going & ~sure
    return {
        "loss": point.loss,
        "thresholds": list(point.thresholds),
        "expected": {name: getattr(point, name) for name in ("lost", "lost_low", "lost_high", "answered", "macs")},
        "accuracy": float(hits.mean()),
        "lost": float(right[-1].mean() - hits.mean()),
        "answered": answered,
        "macs": float(spent.mean()),
        "macs_ratio": float(spent.mean() / work[-1].mean()),
    }


def run_stages(paths):
    """The stages of several runs, the given last one last, the others by their MACs."""
    paths = [Path(path) for path in paths]
    if len(set(paths)) != len(paths):
        raise UsageError("a cascade names a run twice")
    if not 2 <= len(paths) <= MOST_STAGES:
        raise UsageError(f"a cascade has 2 to {MOST_STAGES} stages, not {len(paths)}")
    stages = [make_stage(RunDirectory.open(path), str(path)) for path in paths]
    last = stages[-1].directory
    for stage in stages[:-1]:
        check_together(stage.directory, last)
    return [*sorted(stages[:-1], key=nominal), stages[-1]]


def level_stages(path):
    """The lowest and the highest level of a run, and where there are more, one of those between."""
    directory = RunDirectory.open(path)
    densities = directory.info.config.density
    if len(densities) < 2:
        raise UsageError(f"{path} has one density, and a cascade of levels takes several: train with --density R,R")
    chosen = sorted({0, (len(densities) - 1) // 2, len(densities) - 1})
    return [make_stage(directory, f"density {densities[level]:g}", level) for level in chosen]


def make_stage(directory, name, level=None):
    tensors = directory.model_tensors()
    network = make_network(directory.info, tensors=tensors).eval()
    level = len(network.densities) - 1 if level is None else level
    return Stage(name, directory, level, network, f"{tensors_hash(tensors)}/{level}")


def nominal(stage):
    return sum(macs.nominal(stage.network.layers, stage.network.densities[stage.level]).values())


def check_together(one, last):
    """Refuse runs whose networks see other images, or whose clients held out others."""
    mine, theirs = one.info, last.info
    for key, what in (("labels", "classes"), ("shape", "images of another shape")):
        if mine.data[key] != theirs.data[key]:
            raise UsageError(f"{one.path} and {last.path} make no cascade: they have other {what}")
    if mine.data["sha256"] != theirs.data["sha256"]:
        raise UsageError(f"{one.path} and {last.path} make no cascade: they were trained on other data")
    if (mine.data["mean"], mine.data["std"]) != (theirs.data["mean"], theirs.data["std"]):
        raise UsageError(f"{one.path} and {last.path} make no cascade: their inputs are normalised otherwise")
    for name in SAME:
        if getattr(mine.config, name) != getattr(theirs.config, name):
            option = name.replace("_", "-")
            raise UsageError(
                f"{one.path} and {last.path} have other --{option}: one may have trained on what the other held out"
            )


@torch.no_grad()
def run_stage(stage, images):
    """Of images uint8 (n, C, H, W): logits float32 (n, classes), and the MACs that each image asked for, (n,)."""
    network, about = stage.network, stage.directory.info.data
    network.level = stage.level
    logits, work = [], []
    for part in images.split(CHUNK):
        x = normalise(part, about["mean"], about["std"]).contiguous(memory_format=torch.channels_last)
        logits.append(network(x).float().numpy())
        work.append(executed_macs(network, len(part)).sum(1))
    network.forget()
    return np.concatenate(logits), np.concatenate(work)


def cascade_tables(result):
    """Print what `evaluate_cascade` found."""
    out, stages = console(), result["stages"]
    made = table("stage", "accuracy", "MACs", title=f"alone, on {result['test_images']:,} test images", right=2)
    for stage in stages:
        made.add_row(stage["name"], f"{100 * stage['accuracy']:.2f} %", f"{stage['macs']:,.0f}")
    out.print(made)
    heads = ("accuracy", "lost", "expected", "answered by each", "MACs of the last")
    made = table("may lose", *heads, title=f"together, thresholds from {result['held_out']:,} held-out images", right=5)
    for point in result["points"]:
        expected = point["expected"]
        made.add_row(
            f"{100 * point['loss']:g} points",
            f"{100 * point['accuracy']:.2f} %",
            f"{100 * point['lost']:+.2f}",
            f"{100 * expected['lost_low']:+.2f} to {100 * expected['lost_high']:+.2f}",
            ", ".join(f"{100 * share:.0f} %" for share in point["answered"]),
            f"{point['macs_ratio']:.2f}",
        )
    out.print(made)
    if result["few"]:
        out.print(f"{result['held_out']:,} images are few: with fewer than {FEW_IMAGES:,} a threshold is mostly chance")
    if stages[0]["accuracy"] >= stages[-1]["accuracy"]:
        out.print(f"{stages[0]['name']} alone loses nothing here: use it without a cascade")
    elif all(point["macs_ratio"] >= 1 for point in result["points"]):
        out.print("the cascade saves nothing here: use the last stage alone")
