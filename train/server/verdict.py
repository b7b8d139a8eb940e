"""What a round makes of its turnout: the next state, or the state before it once more."""

import math
from dataclasses import dataclass, replace

import numpy as np

from fedgate.device_runtime.errors import FedgateError

from ..local.evaluation import Evaluation
from ..strategies import ServerState, round_step
from ..strategies.masked import ENOUGH
from .downloads import broadcast_of, note_changes
from .engine import Engine
from .norms import reestimated
from .outcome import Turnout
from .round_input import RoundInput

EXPLODED = 20.0  # times the last round's loss, or that of guessing


@dataclass(frozen=True, eq=False)
class Verdict:
    """What a round ends with. state: after it. turnout: as everything is decided. evaluation: of the state.

    reason: why it is the state of before, None where it is not. losses: by which the next round is judged.
    """

    state: ServerState
    turnout: Turnout
    evaluation: Evaluation
    reason: str | None
    losses: dict[str, float | None]


def decide(start: RoundInput, turnout: Turnout, engine: Engine) -> Verdict:
    """Aggregate what came, look at what it makes, and take it or leave it."""
    config = start.config
    reason = too_few(config, turnout)
    if reason is not None:
        turnout = turnout.keep_for_later()
    state, turnout = aggregated(start, turnout)
    losses, wrong = start.losses, unfit(start, state) if turnout.used else None
    if wrong is None:
        if config.reestimate_norms and state.round == config.rounds:
            state, turnout = reestimated(start, state, turnout, engine)
        evaluation = engine.evaluate(state.tensors, start.densities)
        losses, wrong = judged(start, turnout, evaluation)
    if wrong is None:
        return Verdict(state, turnout, evaluation, reason, losses)
    senders = ", ".join(str(client) for client in sorted(outcome.client for outcome in turnout.used))
    reason = f"{wrong}: the state is kept; clients {senders} had sent updates"
    turnout = turnout.refuse({outcome.client: f"the round is not taken: {wrong}" for outcome in turnout.used})
    state = kept(start)
    return Verdict(state, turnout, engine.evaluate(state.tensors, start.densities), reason, losses)


def too_few(config, turnout):
    """Why a round with so few good updates keeps the state; None where they are enough."""
    good = len(turnout.used)
    if good < config.min_clients:
        return f"{good} good updates, and --min-clients is {config.min_clients}: the state is kept"
    if good < ENOUGH and config.robust != "none":
        return f"{good} good updates, and --robust {config.robust} takes {ENOUGH}: the state is kept"
    return None


def aggregated(start, turnout):
    """What the used updates make of the state: (state, turnout with what of them was not taken)."""
    if not turnout.used:
        return kept(start), turnout
    spec, public = start.broadcast.spec, start.broadcast.public
    updates = [outcome.update for outcome in turnout.used]
    state, not_taken = round_step(start.state, updates, start.strategy, spec, public)
    cut = {c: f"its change is too long, and {share:.3g} of it is taken" for c, share in not_taken.shares.items()}
    return note_changes(start.state, state, spec, public), turnout.bounded(cut).refuse(not_taken.refused)


def kept(start):
    """The state of before, one round later."""
    state = replace(start.state, round=start.done + 1)
    return note_changes(start.state, state, start.broadcast.spec, start.broadcast.public)


def unfit(start, state):
    """Why no client could start from an aggregated state; None where all could."""
    if not finite(state):
        return "the aggregated state is not finite"
    try:
        broadcast_of(state, start.broadcast.spec, start.config)
    except FedgateError as error:  # a lossy codec goes beyond what float32 holds
        return f"the aggregated state cannot be sent: {error}"
    return None


def judged(start, turnout, evaluation):
    """By which losses the next round is judged, and why this one's state is not taken, None where it is."""
    if not turnout.used:
        return start.losses, None
    losses = losses_of(evaluation, turnout)
    wrong = why_not(losses, start.losses, len(start.info.data["labels"]))
    return (start.losses if wrong else losses), wrong


def finite(state):
    """Whether all numbers of a server state are."""
    arrays = [*state.tensors.values(), *state.memory.values()]
    return all(bool(np.isfinite(array).all()) for array in arrays)


def losses_of(evaluation, turnout):
    """What a round is judged by: the loss on the test set at the highest level, and the median of what clients told.

    None where there is none, or it is no number.
    """
    told = [outcome.loss for outcome in turnout.used if outcome.loss is not None and math.isfinite(outcome.loss)]
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
