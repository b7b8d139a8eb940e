"""Which arms are compared with each other, and the data, sizes and options that they share."""

import dataclasses
import hashlib
import json
from pathlib import Path

from kept_runs import RUNS, count_images, subset
from paper.arms import KINDS, Arm, central_arms, federated_arms
from paper.budget import LARGE_FROM, Size, fit, measured_speeds, part_seconds

from fedgate.train.config.presets import PRESETS
from fedgate.train.data.load import load_data

SMALL = 16  # pixels; images are not made smaller
EACH = {"partition": "dirichlet:0.5", "local_epochs": 1}  # of a federation, without a preset
ALONE = {"partition": "iid", "clients": 1, "local_epochs": 3}  # whose tests would else cost as much as training


@dataclasses.dataclass(frozen=True)
class Source:
    """Data before they are cut. shape: (C, H, W). cut: whether they can be, as a folder of parquet files."""

    data: str
    images: int
    tests: int
    shape: tuple[int, int, int]
    classes: int
    cut: bool

    @classmethod
    def of(cls, data):
        cut = Path(data).is_dir() and any(Path(data).rglob("*.parquet"))
        data = str(Path(data).expanduser().absolute()) if cut else data
        found = load_data(subset(data, 100, 100) if cut else data)
        counts = count_images(data) if cut else (len(found.train_labels), len(found.test_labels))
        return cls(data, *counts, tuple(found.train_images.shape[1:]), len(found.labels), cut)

    @property
    def name(self):
        return Path(self.data).name

    def at(self, size):
        """Where the images of a `Size` are, as `fedgate train --data` takes it."""
        tests = None if size.tests == self.tests else size.tests
        return self.data if (size.images, tests) == (self.images, None) else subset(self.data, size.images, tests)


@dataclasses.dataclass(frozen=True)
class Group:
    """Arms that are compared with each other. parts: the questions; options: of `TrainConfig`, what the arms share."""

    parts: tuple[str, ...]
    arms: list[Arm]
    options: dict

    @property
    def kinds(self):
        return ["gated" if arm.gated else "none" for arm in self.arms]


def groups_of(parts, classes, shape, options, density, densities, preset=None, kinds=tuple(KINDS)):
    """The `Group`s that the questions need, at most one federation and then one of c and d.

    options: of `TrainConfig`, the model among them; those of a preset win. density: of the federation's gates.
    kinds: of c and d, some of `arms.KINDS`.
    """
    shared, found = EACH | options, []
    if preset:
        shared |= {key: value for key, value in PRESETS[preset].options.items() if key not in ("density", "rounds")}
    if asked := tuple(part for part in parts if part in "ab"):
        least = {"algorithms": ("fedavg",), "uploads": ("dense", "gated, salient upload"), "codecs": ()}
        found.append(Group(asked, federated_arms(density, **({} if "b" in asked else least)), shared))
    if asked := tuple(part for part in parts if part in "cd"):
        arms = central_arms(shared["model"], classes, shape, densities, kinds)
        found.append(Group(asked, arms, shared if preset else shared | ALONE))
    return found


def choose_sizes(groups, source, sides, minutes, tell):
    """(pixels, a `Size` for each group) that fit in a budget by the speed of this machine; tell: shows a line.

    sides: the pixels to choose from, the first where it leaves room for `LARGE_FROM` images.
    """
    allowed = part_seconds([part for group in groups for part in group.parts], minutes)
    density = next((arm.density for group in groups for arm in group.arms if arm.gated), 1.0)
    least = None if source.cut else source.images
    for pixels in sides:
        options, sizes = groups[0].options, []
        speeds = measured_speeds(options["model"], (source.shape[0], pixels, pixels), density, options["batch_size"])
        dense, gated = (f"{speeds[kind].train:.0f}" for kind in ("none", "gated"))
        tell(f"{pixels} pixels: {dense} images a second are trained dense, {gated} gated")
        for group in groups:
            seconds = sum(allowed.get(part, 0) for part in group.parts if part != "d" or len(group.parts) == 1)
            shared = {name: group.options[name] for name in ("clients", "local_epochs")}
            size, fits = fit(seconds, group.kinds, speeds, source.images, source.tests, least, **shared)
            sizes.append(size)
            if not fits:
                tell(f"{', '.join(group.parts)}: {minutes:g} minutes a seed are too few for the least that is trained")
        if all(size.images >= min(LARGE_FROM, source.images) for size in sizes):
            break
    return pixels, sizes


def kept_choice(arguments, make):
    """(pixels, sizes) as `make()` chose them when these arguments were first given, so that the same runs go on."""
    path = RUNS / f"paper-{hashlib.sha256(json.dumps(arguments).encode()).hexdigest()[:16]}.json"
    if not path.is_file():
        pixels, sizes = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps([pixels, [dataclasses.asdict(size) for size in sizes]]))
    pixels, sizes = json.loads(path.read_text())
    return pixels, [Size(**size) for size in sizes]
