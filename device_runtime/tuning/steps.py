"""SGD on a tail by its train program: batches in a seeded order, over features that the trunk left."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from ..engines import LoadedProgram
from ..errors import FedgateError, UsageError
from ..formats.ports import MOMENTUM, TRUNK_OPEN
from .features import Features
from .plan import TunePlan
from .programs import batch_size
from .state import TailState, new_epoch


@dataclass(frozen=True)
class TrainingSet:
    """Rows of `features` and their labels, int64, one for each row of the file. chosen: the rows to train on.

    still: by name of a parameter the rows of it, and of its momentum, that no step moves.
    """

    features: Features
    labels: np.ndarray
    chosen: np.ndarray
    still: dict[str, np.ndarray] = field(default_factory=dict)


def batches(chosen: np.ndarray, size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """An epoch's batches: a random order of the examples cut into even parts of at most `size`."""
    order = np.random.default_rng([seed, epoch]).permutation(chosen)
    return np.array_split(order, -(-len(order) // size))


def train(program: LoadedProgram, examples: TrainingSet, plan: TunePlan, state: TailState) -> Iterator[TailState]:
    """The rest of the epoch in which `state` stands, or the next one: yields the state after each step.

    program: of role `train`. The last state has counted the epoch as done. Raises `UsageError` for batches that the
    program does not take, `FedgateError` when the loss is no number any more.
    """
    if plan.batch_size > batch_size(program):
        most = f"{program.program.file} trains {batch_size(program)} examples at once"
        raise UsageError(f"{most}: a batch size of {plan.batch_size} is more")
    parts = batches(examples.chosen, plan.batch_size, plan.seed, state.epoch)
    if state.batch == 0:
        state = new_epoch(state)
    for rows in parts[state.batch :]:
        state = step(program, examples, rows, plan, state)
        if state.batch == len(parts):
            state = replace(state, epoch=state.epoch + 1, batch=0)
        yield state


def step(program: LoadedProgram, examples: TrainingSet, rows, plan: TunePlan, state: TailState) -> TailState:
    """One step on some rows; what they lack of a whole batch is filled with zeros of weight 0."""
    features, trunk = examples.features.take(rows)
    size, count = batch_size(program), len(rows)
    number = lambda value: np.array([value], np.float32)  # noqa: E731
    values = {
        **state.parameters,
        **{MOMENTUM + name: value for name, value in state.momentum.items()},
        "features": _filled(features, size),
        TRUNK_OPEN: _filled(trunk, size),
        "labels": _filled(examples.labels[rows].astype(np.int32), size),
        "weights": _filled(np.ones(count, np.float32), size),
        "level": np.array([plan.level], np.int32),
        "lr": number(plan.lr * plan.lr_decay**state.epoch),
        "momentum": number(plan.momentum),
        "weight_decay": number(plan.weight_decay),
        "clip_norm": number(plan.clip_norm),
    }
    results = program.call(values)
    loss, correct = float(results["loss"][0]), float(results["correct"][0])
    if not np.isfinite(loss):
        raise FedgateError(f"the training diverged in step {state.steps + 1}: its loss is {loss}; lower --lr")
    # the masks of the trunk come first, those of the tail behind them
    nothing = np.zeros(0, np.float32)
    opened = np.concatenate([trunk.sum(0, np.int64), np.rint(results.get("opened", nothing)).astype(np.int64)])
    strength = np.concatenate([np.zeros(trunk.shape[1]), results.get("strength", nothing).astype(np.float64)])
    return replace(
        state,
        parameters={n: _but(results[n], value, examples.still.get(n)) for n, value in state.parameters.items()},
        momentum={n: _but(results[MOMENTUM + n], value, examples.still.get(n)) for n, value in state.momentum.items()},
        touched=state.touched | (opened > 0),
        opened=state.opened + opened,
        strength=state.strength + strength,
        sums=state.sums + np.array([loss * count, correct]),
        batch=state.batch + 1,
        steps=state.steps + 1,
        samples=state.samples + count,
    )


def _but(after: np.ndarray, before: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
    """A parameter after a step, with some rows as they were before it."""
    if rows is not None:
        after[rows] = before[rows]
    return after


def _filled(rows: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate([rows, np.zeros((size - len(rows), *rows.shape[1:]), rows.dtype)])
