"""How much can be trained in the time there is: image size, images and rounds, from the speed of this machine."""

import time
from dataclasses import dataclass, replace

import torch

from fedgate.train.ingredients import resolve_device
from fedgate.train.local.client import LocalPlan, resolve_precision, train_locally
from fedgate.train.local.evaluation import CHUNK, evaluate
from fedgate.train.network.build import build_network

EPOCHS = 10  # at least, over as many images as there is time for
MOST_ROUNDS = 100  # the paper's, once all images are used
LEAST_IMAGES, STEP = 500, 100
LARGE_FROM = 10_000  # images that must fit in their own size, else they are halved
SHARES = {"a": 0.1, "b": 0.45, "c": 0.35, "d": 0.1}  # of the budget
OVERHEAD = 3.0  # seconds a run: reading images, building, writing
EXCHANGE = 0.15  # seconds a client and round: encoding, decoding, aggregating


@dataclass(frozen=True)
class Speed:
    """Images a second, trained on and evaluated."""

    train: float
    evaluate: float


@dataclass(frozen=True)
class Size:
    """images: for training. tests: of the test set, each round."""

    images: int
    tests: int
    rounds: int


def seconds_of(size, kinds, speeds, clients, local_epochs):
    """Seconds that runs take; kinds: of their arms, "none" or "gated" each; speeds: kind -> `Speed`."""
    each = {}
    for kind, speed in speeds.items():
        tested = (size.rounds + 2) * size.tests / speed.evaluate  # at the end also training images, and fixed masks
        trained = size.rounds * local_epochs * size.images / speed.train
        each[kind] = OVERHEAD + EXCHANGE * clients * size.rounds + trained + tested
    return sum(each[kind] for kind in kinds)


def fit(seconds, kinds, speeds, images, tests, least=None, clients=1, local_epochs=1):
    """The largest `Size` whose runs fit, and whether it does: the smallest may be too large.

    images, tests: how many there are; least: of them, `LEAST_IMAGES` if None. First come images, as many as can be
    seen in `EPOCHS` epochs, and as many for the tests; then, once all are used, rounds.
    """

    def fits(size):
        return seconds_of(size, kinds, speeds, clients, local_epochs) <= seconds

    rounds = -(-EPOCHS // local_epochs)
    least = min(LEAST_IMAGES if least is None else least, images)
    size = Size(least, min(least, tests), rounds)
    room = fits(size)
    for count in range(least + STEP, images + STEP, STEP):
        larger = Size(min(count, images), min(count, tests), rounds)
        if not fits(larger):
            return size, room
        size = larger
    if not room:
        return size, False
    longer = (replace(size, rounds=more) for more in range(rounds, MOST_ROUNDS + 1))
    return max(filter(fits, longer), key=lambda size: size.rounds), True


def part_seconds(parts, minutes):
    """The seconds that each of `parts` may take, of all `minutes`; `a` reuses runs of `b`, where `b` is asked too."""
    shares = {part: SHARES[part] for part in parts if not (part == "a" and "b" in parts)}
    return {part: 60 * minutes * share / sum(shares.values()) for part, share in shares.items()}


def measured_speeds(model, shape, density, batch_size, count=256):
    """How fast this machine trains and evaluates the model, kind -> `Speed`, by the wall clock and on noise.

    By the wall clock: what others compute meanwhile counts, as it will while the runs last.
    """
    device = resolve_device("auto")
    precision, statistics = resolve_precision("auto", device), ([0.5] * shape[0], [0.25] * shape[0])
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (count,), generator=generator)
    speeds = {}
    for kind, gate in (("none", "none"), ("gated", "paper")):
        network = build_network(model, gate, (density if gate == "paper" else 1.0,), 10, shape)
        network = network.to(device, memory_format=torch.channels_last)
        plan = LocalPlan(
            network.densities,
            epochs=1,
            batch_size=batch_size,
            lr=0.01,
            seed=0,
            precision=precision,
            augment="crop-flip",
        )
        train_locally(network, images[: 2 * batch_size], labels[: 2 * batch_size], statistics, plan)  # warm up
        started = time.perf_counter()
        train_locally(network, images, labels, statistics, plan)
        trained = time.perf_counter()
        evaluate(network, images[:CHUNK], labels[:CHUNK], statistics, precision, 10)
        ended = time.perf_counter()
        speeds[kind] = Speed(count / (trained - started), len(images[:CHUNK]) / (ended - trained))
    return speeds
