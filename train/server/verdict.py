"""Whether what a round made is taken, or the state before it kept."""

import math

import numpy as np

EXPLODED = 20.0  # times the last round's loss, or that of guessing


def finite(state):
    """Whether all numbers of a server state are."""
    arrays = [*state.tensors.values(), *state.memory.values()]
    return all(bool(np.isfinite(array).all()) for array in arrays)


def losses_of(evaluation, rows):
    """What a round is judged by: the loss on the test set at the highest level, and the median of what clients told.

    None where there is none, or it is no number.
    """
    told = [row["loss"] for row in rows if row["status"] == "used" and row["loss"] is not None]
    told = [loss for loss in told if math.isfinite(loss)]
    test = float(evaluation.loss[-1] / max(1, evaluation.images[-1]))
    return {"test": test if math.isfinite(test) else None, "training": float(np.median(told)) if told else None}


def why_not(losses, before, classes):
    """Why a round's state is not taken by its losses, in words; None where it is. before: of the last that was taken.

    A first round is: networks with norms begin with statistics that fit nothing.
    """
    for kind, old in before.items():
        new = losses[kind]
        if old is None or (new is None and kind == "training"):
            continue
        if new is None or new > EXPLODED * max(old, math.log(classes)):
            return f"the {kind} loss went from {old:.3g} to {'no number' if new is None else f'{new:.3g}'}"
    return None
