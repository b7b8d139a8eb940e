"""Epochs of local training with a validation after each, saved so that they can go on after any interruption."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..errors import UsageError
from ..formats.checks import canonical_json
from ..formats.tensors import read_tensors, write_tensors
from .absent import ReferenceSet
from .evaluate import scores, tail_logits
from .plan import TunePlan
from .programs import TailPrograms
from .state import TailState, state_arrays, state_from_arrays
from .steps import TrainingSet, train

SAVED = "training.safetensors"
SAVE_SECONDS = 20.0  # of training that a killed process may lose


@dataclass(frozen=True)
class Progress:
    """A training so far. best: the state after the epoch with the lowest loss that it is judged by, or the last one.

    epochs: a row each: epoch (from 1), loss, accuracy, and validation_loss and validation_accuracy or None; with
    reference images reference_loss and reference_accuracy; where both judge, judged_loss.
    """

    state: TailState
    best: TailState
    epochs: tuple[dict, ...] = ()
    before: dict | None = None
    seconds: float = field(default=0.0, compare=False)  # of this process's steps

    def best_epoch(self) -> int | None:
        """From 1; None before the first has ended."""
        if not self.epochs:
            return None
        if self.epochs[-1]["validation_loss"] is None:
            return len(self.epochs)
        return int(np.argmin([row.get("judged_loss", row["validation_loss"]) for row in self.epochs])) + 1

    def done(self, plan: TunePlan, patience: int | None) -> bool:
        stalled = patience is not None and len(self.epochs) - (self.best_epoch() or 0) >= patience
        return len(self.epochs) == plan.epochs or (bool(self.epochs) and stalled)


def run_training(
    programs: TailPrograms,
    examples: TrainingSet,
    validation: np.ndarray,
    plan: TunePlan,
    reference: ReferenceSet | None,
    start: TailState,
    patience: int | None,
    folder: Path,
    key: dict,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Train until the plan's epochs are over, or `patience` epochs brought no lower loss.

    validation: rows to judge by, none without. reference: images of classes that `validation` lacks. An epoch is judged
    by the loss on `validation`; where that has one class alone, and some have no images to train on, by the mean of
    this and the loss on `reference`, for the former falls while the others are unlearned. start: the untrained tail.
    key: a JSON object that says all that the result depends on; what `folder` holds of the same key is continued, and
    of another refused. progress: called after each step and each epoch.
    """
    now = _saved(folder, key) or Progress(start, start)
    one_class = len(np.unique(examples.labels[validation])) == 1
    patience = patience if len(validation) else None

    def judge(parameters):
        if not len(validation):
            return None
        features = (examples.features.take([row])[0] for row in validation)
        logits = tail_logits(programs.tail, parameters, features, plan.level)
        return scores(logits, examples.labels[validation])

    def judge_others(parameters, judged):
        """What an epoch's row has of the reference images."""
        if reference is None:
            return {}
        others = reference.scores(programs, parameters, plan.level)
        found = {"reference_loss": others["loss"], "reference_accuracy": others["accuracy"]}
        if one_class and examples.still:
            found["judged_loss"] = (judged["loss"] + others["loss"]) / 2
        return found

    if len(validation) and now.before is None:
        now = replace(now, before=judge(start.parameters))
    saved = time.monotonic()
    try:
        while not now.done(plan, patience):
            started = time.perf_counter()
            for state in train(programs.train, examples, plan, now.state):
                now = replace(now, state=state, seconds=now.seconds + time.perf_counter() - started)
                if state.batch == 0:
                    judged = judge(state.parameters)
                    now = _after_epoch(now, judged, judge_others(state.parameters, judged))
                if time.monotonic() - saved > SAVE_SECONDS:
                    _save(folder, key, now)
                    saved = time.monotonic()
                progress(now)
                started = time.perf_counter()
    finally:
        _save(folder, key, now)
    return now


def _after_epoch(now: Progress, judged: dict | None, others: dict) -> Progress:
    row = {
        "epoch": now.state.epoch,
        "loss": now.state.loss,
        "accuracy": now.state.accuracy,
        "validation_loss": judged and judged["loss"],
        "validation_accuracy": judged and judged["accuracy"],
    } | others
    now = replace(now, epochs=(*now.epochs, row))
    return replace(now, best=now.state) if now.best_epoch() == len(now.epochs) else now


def _save(folder: Path, key: dict, now: Progress) -> None:
    arrays, meta = {}, {"key": key, "epochs": list(now.epochs), "before": now.before}
    for name in ("state", "best"):
        own, meta[name] = state_arrays(getattr(now, name), f"{name}/")
        arrays |= own
    write_tensors(folder / SAVED, arrays, meta)


def _saved(folder: Path, key: dict) -> Progress | None:
    if not (folder / SAVED).is_file():
        return None
    arrays, meta = read_tensors(folder / SAVED)
    if canonical_json(meta.get("key")) != canonical_json(key):
        old = meta.get("key") or {}
        other = ", ".join(name for name in sorted(key) if old.get(name) != key[name])
        raise UsageError(
            f"{folder.parent} holds an unfinished fine-tuning of another {other}: "
            "go on with what it began with, or choose another --out"
        )
    states = {name: state_from_arrays(arrays, meta.get(name), f"{name}/") for name in ("state", "best")}
    return Progress(**states, epochs=tuple(meta["epochs"]), before=meta["before"])
