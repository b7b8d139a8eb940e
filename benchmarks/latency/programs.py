"""The programs that are timed: variants of a calibrated network, what they compute, lowered for a runtime."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from calibrate import benchmark_images, calibrated, most_opened, slim_network
from common import REPOSITORY, keep, lowered_digest, program_entry
from latency.int8 import lower_int8
from torch import nn

from fedgate.device_runtime.engines.program_macs import stock_macs
from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.formats import macs
from fedgate.device_runtime.formats.manifest import Program
from fedgate.device_runtime.verify import relative_error
from fedgate.export.check import Comparison, compare_gated, compare_plain, mismatch
from fedgate.export.eval_networks import dense_network, masked_network, static_network
from fedgate.export.lowering import LOWERINGS, lower
from fedgate.export.reference import EagerReference, fixed_masks
from fedgate.export.skip import kernel_layers, skip_network
from fedgate.train.network.build import GatedNetwork, build_network

ROLES = ("dense", "masked", "static", "slim", "skip", "dense-int8")
DIAL = (0.25, 0.4, 0.5, 0.61, 0.75, 1.0)  # levels of ResNet-32's skip program: latency as a function of density
CLASSES = 10
LARGE = 128  # pixels from which on fewer images must do
CACHE = REPOSITORY / "build" / "latency"


@dataclass
class Variant:
    """A program to be made, and what it is compared with.

    role: of the row. kind: of the program, as a manifest calls it. body: its eval network. network: the gated or plain
    one it comes from. level: of a static program. timed: the levels to time it at, [None] for one that takes none.
    compare: a `Played` -> `Comparison`. work: (a `Played`, a level) -> (executed MACs, MACs that the masks ask for).
    arm: which training it comes from, where there are several.
    """

    role: str
    kind: str
    body: nn.Module
    network: GatedNetwork
    densities: list[float | None]  # of `timed`
    compare: Callable
    work: Callable
    level: int | None = None
    timed: tuple = (None,)
    kernel_layers: tuple = ()
    arm: str | None = None


@dataclass
class Subject:
    """A model at a size, calibrated: the gated network with all its levels, and the same convolutions without gates."""

    model: str
    size: int
    network: GatedNetwork
    dense: GatedNetwork
    densities: tuple[float, ...]  # those of static and slim programs
    calibration: torch.Tensor
    images: np.ndarray  # those to be timed
    data: str
    dense_macs: int

    @property
    def name(self):
        return f"{self.model} at {self.size}"


def subject(name, densities, data, quick):
    """The `Subject` of NAME or NAME-SIZE."""
    model, size = re.fullmatch(r"(.+?)(?:-(\d+))?", name).groups()
    size = int(size or 32)
    large = size >= LARGE
    shape = (3, size, size)
    calibration, label = benchmark_images(data, shape, (16 if large else 64) if quick else (64 if large else 256))
    levels = sorted({*densities, *(DIAL if name == "resnet32" and not quick else ())})
    torch.manual_seed(0)
    network = calibrated(build_network(model, "paper", levels, CLASSES, shape), calibration)
    torch.manual_seed(0)
    dense = calibrated(build_network(model, "none", (1.0,), CLASSES, shape), calibration)
    images = calibration[: 4 if large else 8].numpy()
    total = macs.total(macs.dense(dense.layers))
    return Subject(model, size, network, dense, densities, calibration, images, label, total)


def variants(of, roles):
    """The `Variant`s of a `Subject`, dense first: the others are told as ratios to it."""
    made = [plain(of, "dense", None, of.dense)]
    reference = EagerReference(of.network)
    if "masked" in roles:
        middle = min(range(len(of.network.densities)), key=lambda level: abs(of.network.densities[level] - 0.5))
        made.append(choosing(of, reference, "masked", masked_network(of.network), (middle,)))
    for density in of.densities:
        if "static" in roles:
            made.append(static(of, reference, density))
        if "slim" in roles:
            torch.manual_seed(0)
            narrow = slim_network(build_network(of.model, "paper", (density,), CLASSES, of.network.shape))
            made.append(plain(of, "slim", density, calibrated(narrow, of.calibration)))
    if "skip" in roles:
        made.append(choosing(of, reference, "skip", skip_network(of.network), tuple(range(len(of.network.densities)))))
    if "dense-int8" in roles:
        made.append(plain(of, "dense-int8", None, of.dense))
    return made


def plain(of, role, density, network):
    """A network without gates."""
    expected = EagerReference(network).dense(of.images)

    def compare(played):
        if role == "dense-int8":  # another function than the float network: how far off is told, not judged
            return Comparison(len(expected), relative_error(played.logits[0], expected))
        return compare_plain(played, of.images, expected)

    count = macs.total(macs.dense(network.layers))
    return Variant(role, "dense", dense_network(network), network, [density], compare, lambda *_: (count, count))


def static(of, reference, density, kept=None):
    """The network with fixed masks; kept: channels by gated layer, those that its images open most where None."""
    network, level = of.network, of.network.densities.index(density)
    kept = most_opened(network, of.calibration, level) if kept is None else kept
    masks = fixed_masks(network.layers, kept)
    expected = reference.run(of.images, level, masks)[0]
    count = int(macs.total(macs.executed(network.layers, masks))[0])
    return Variant(
        "static",
        "static",
        static_network(network, level, kept),
        network,
        [density],
        lambda played: compare_plain(played, of.images, expected),
        lambda *_: (count, count),
        level,
    )


def choosing(of, reference, role, body, timed):
    """The gated network as one program that chooses masks, its level an input."""
    network, layers = of.network, kernel_layers(body)
    facts = SimpleNamespace(layers=network.layers)

    def compare(played):
        result = compare_gated(played, reference, of.images, len(network.densities))
        stock = stock_macs(facts, played.program)
        for masks, counted in zip(played.open, played.macs, strict=True):
            asked = macs.executed(network.layers, masks)
            asked = (stock + sum(asked[name] for name in layers) + np.zeros(len(masks))).tolist()
            if asked != counted.tolist():
                raise mismatch(played.program, f"its kernel counts {counted.tolist()} MACs, its masks ask for {asked}")
        return result

    def work(played, level):
        asked = float(np.mean(macs.total(macs.executed(network.layers, played.open[level]))))
        return played.macs[level].mean(), asked

    densities = [network.densities[level] for level in timed]
    return Variant(role, role, body, network, densities, compare, work, timed=timed, kernel_layers=layers)


def make_program(of, variant, runtime, fresh):
    """The `Program` of a variant, lowered into `CACHE` where it is not there already. Raises `FedgateError`."""
    facts = (runtime, of.model, of.network.shape, variant.role, variant.level, variant.densities)
    suffix, shape, takes_level = LOWERINGS[runtime][0], of.network.shape, variant.kind in ("masked", "skip")

    def make():
        return lower(variant.body, runtime, shape, takes_level)

    if variant.role == "dense-int8":
        images = of.calibration[: 8 if of.size >= LARGE else 32]
        facts += (Path(__file__).with_name("int8.py").read_text(), images.numpy().tobytes())

        def make():
            return lower_int8(variant.body, runtime, shape, images)

    name = f"{runtime}-{of.model}-{of.size}-{variant.role}-{lowered_digest(variant.body, *facts)}.{suffix}"
    keep(CACHE / name, make, fresh)
    return program_entry(CACHE / name, runtime, variant.kind, variant.network, variant.level, variant.kernel_layers)


@dataclass
class Lowered:
    """A variant as a runtime's program, or the reason why there is none."""

    variant: Variant
    program: Program | None = None
    reason: str | None = None


def lower_all(of, made, runtime, fresh, status):
    """Lower the variants of a subject to a runtime."""
    found = []
    for variant in made:
        status.update(f"lowering {of.name}, {runtime} {variant.role}")
        try:
            found.append(Lowered(variant, make_program(of, variant, runtime, fresh)))
        except Exception as error:  # converters raise what they like; the other programs can still be measured
            reason = str(error) if isinstance(error, FedgateError) else f"{type(error).__name__}: {error}"
            found.append(Lowered(variant, reason=" ".join(reason.split())[:300]))
    return found
