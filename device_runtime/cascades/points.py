"""Operating points of a cascade: from counts of held-out images to thresholds for a list of allowed losses."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .counts import cells
from .scores import BINS, EDGES

FEW_IMAGES = 1000  # with fewer, a difference of half a point is within chance
QUANTILE = 1.96  # of the normal distribution, for intervals of 95 %


@dataclass(frozen=True)
class Point:
    """Thresholds, one for each stage but the last, and what they gave on the images that they were picked by.

    loss: the accuracy that may be lost to the last stage alone, as a share. accuracy, lost: of the cascade, and what it
    lost, with the 95 % interval of the paired difference. answered: by stage, the share of images that it answers.
    macs: mean multiply-adds of an image, all stages that it went through.
    """

    loss: float
    thresholds: tuple[float, ...]
    accuracy: float
    lost: float
    lost_low: float
    lost_high: float
    answered: tuple[float, ...]
    macs: float


def pick(table: dict[int, int], macs: Sequence[float], losses: Sequence[float]) -> list[Point]:
    """The cheapest thresholds of each allowed loss, of a table of `counts`.

    macs: multiply-adds of each stage; an image costs all stages up to the one that answers. The loss is paired: on the
    same images, against the last stage alone. Of equally cheap thresholds the most cautious are taken. A stage that
    never answers has a threshold above 1.
    """
    counts = by_stage(table, len(macs))
    images, right = int(counts.sum()), int(counts.sum(tuple(range(counts.ndim - 1)))[1])
    reached, gained, given = outcomes(counts, len(macs))
    cost = sum(each * work for each, work in zip(reached, macs, strict=True)) / images
    caution = np.indices(cost.shape).sum(0)
    points = []
    for loss in losses:
        allowed = given - gained <= loss * images
        order = np.lexsort((-caution[allowed], cost[allowed]))
        place = tuple(axis[order[0]] for axis in np.nonzero(allowed))
        stays = [int(each[place]) for each in reached] + [0]
        lost, low, high = paired(int(gained[place]), int(given[place]), images)
        points.append(
            Point(
                loss=loss,
                thresholds=tuple(threshold(i) for i in place),
                accuracy=right / images - lost,
                lost=lost,
                lost_low=low,
                lost_high=high,
                answered=tuple((stays[k] - stays[k + 1]) / images for k in range(len(macs))),
                macs=float(cost[place]),
            )
        )
    return points


def threshold(place: int) -> float:
    """The score from which a stage answers whose images in bins below `place` go on."""
    return (0.0, *EDGES.tolist(), 2.0)[place]


def by_stage(table: dict[int, int], stages: int) -> np.ndarray:
    """A table as int64 (BINS,) * (stages - 1) + (2,) * stages: bins of the scores, then whether each was right."""
    flat = np.zeros(cells(stages), np.int64)
    flat[list(table)] = list(table.values())
    scored, rights = (BINS,) * (stages - 1), (2,) * stages
    counts = flat.reshape(*scored, *rights)  # the first stage's bit is the lowest, and so the last axis
    return counts.transpose(*range(stages - 1), *range(2 * stages - 2, stages - 2, -1))


def outcomes(counts: np.ndarray, stages: int) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """For all thresholds, int64 (BINS + 1,) * (stages - 1): (images that reach each stage, gained, given).

    gained: those that an earlier stage answers rightly, and the last would not; given: the other way round.
    """
    shape = (BINS + 1,) * (stages - 1)
    reached, gained, given = [], np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    going = counts  # what reaches a stage, with an axis of thresholds for each stage before it
    for stage in range(stages):
        missing = (1,) * (stages - 1 - stage)
        everything = going.sum(tuple(range(stage, going.ndim)))
        reached.append(np.broadcast_to(everything.reshape(*everything.shape, *missing), shape))
        if stage == stages - 1:
            break
        answers = np.flip(np.flip(going, stage).cumsum(stage), stage)
        answers = np.concatenate([answers, np.zeros_like(answers.take([0], stage))], stage)
        # by this stage's threshold alone, and whether it and the last one are right
        rights = range(answers.ndim - stages, answers.ndim)
        others = [axis for axis in rights if axis - (answers.ndim - stages) not in (stage, stages - 1)]
        mine = answers.sum((*range(stage + 1, answers.ndim - stages), *others))
        for total, pair in ((gained, (1, 0)), (given, (0, 1))):
            part = mine[(..., *pair)]
            total += part.reshape(*part.shape, *missing[:-1])
        going = np.concatenate([np.zeros_like(going.take([0], stage)), going.cumsum(stage)], stage)
    return reached, gained, given


def paired(gained: int, given: int, images: int) -> tuple[float, float, float]:
    """What is lost, as a share of the images, and its 95 % interval: a difference of two networks on the same images.

    Its variance is that of a mean of -1, 0 and 1. With few images the interval is too narrow.
    """
    lost = (given - gained) / images
    spread = QUANTILE * math.sqrt(max(0.0, (gained + given) / images - lost**2) / images)
    return lost, lost - spread, lost + spread
