"""What clients say of themselves, brought down to what the server knows of them, or finds likely.

An update's weight, FedNova's steps and the salience record are the client's word. Of a simulated client the server
knows how many images it holds. A client on a machine of its own, or one that is known from the inbox alone, may hold
others: it is believed up to `MULTIPLE` times what is usual, which is the median of the partition, or of what the
clients of the round say where that is more and three of them said it.
"""

import dataclasses

import numpy as np

from ..strategies.bounds import typical
from ..strategies.masked import ENOUGH
from .arrivals import Upload
from .outcome import Turnout
from .round_input import RoundInput

MULTIPLE = 4
STRONGER = 10  # times the usual strength of a layer's strongest channel, a sample


def believe(start: RoundInput, turnout: Turnout) -> Turnout:
    """Bring the claims of a turnout's used updates down; `bounded` tells what was not believed."""
    updates = [outcome.update for outcome in turnout.used]
    usual = usual_examples(updates, start.examples)
    limits = usual_strengths(updates, start.salience)
    return turnout.with_used([brought_down(outcome, *most(start, outcome, usual), limits) for outcome in turnout.used])


def brought_down(outcome, examples, steps, strengths):
    """An outcome whose update claims no more than `believed` lets it."""
    said, bounded = outcome.update, outcome.bounded
    made = believed(said, examples, steps, strengths)
    for name in ("examples", "local_steps"):
        claim, taken = getattr(said, name), getattr(made, name)
        if claim != taken:
            bounded += (f"it claims {claim} {name.replace('_', ' ')}, and {taken} are counted",)
    return dataclasses.replace(outcome, update=made, bounded=bounded)


def usual_examples(updates, held):
    """held: how many examples each of the run's clients holds."""
    usual = typical(held, 0)
    return max(1, usual, typical([u.examples for u in updates], 0) if len(updates) >= ENOUGH else 0)


def most(start, outcome, usual):
    """How many examples and local steps of an outcome's update are believed."""
    config, update, here = start.config, outcome.update, outcome.client < len(start.examples)
    held, simulated = start.examples[outcome.client] if here else 0, config.engine != "flower"
    examples = held if here and simulated else max(held, MULTIPLE * usual)
    steps = config.local_epochs * -(-min(update.examples, examples) // config.batch_size)
    return examples, steps if simulated and isinstance(outcome.source, Upload) else MULTIPLE * steps


def usual_strengths(updates, record):
    """By layer, the usual mean strength of the strongest channel over a sample; record: of the rounds before."""
    found = {}
    for layer in updates[0].strength if updates else ():
        tops = [strongest(update.strength[layer], update.samples) for update in updates]
        found[layer] = typical(tops, 0 if record is None else strongest(record.strength[layer], record.samples))
    return found


def strongest(strength, samples):
    samples = np.maximum(1, np.asarray(samples, np.float64))
    return float((strength / samples[:, None]).max(initial=0))


def believed(update, examples, steps, strengths):
    """An update that claims at most so many examples, steps, and samples a level, and likely strengths by layer."""
    samples = tuple(min(n, examples) for n in update.samples)
    share = np.array([m / n if n else 1.0 for m, n in zip(samples, update.samples, strict=True)])[:, None]
    opened, strength = update.opened, update.strength
    if samples != update.samples:
        opened = {layer: (share * each).astype(np.uint32) for layer, each in opened.items()}
        strength = {layer: (share * each).astype(np.float32) for layer, each in strength.items()}
    largest = STRONGER * np.maximum(1, np.array(samples, np.float64))[:, None]
    strength = {
        layer: np.minimum(each, strengths[layer] * largest).astype(np.float32) if strengths.get(layer) else each
        for layer, each in strength.items()
    }
    return dataclasses.replace(
        update,
        examples=min(update.examples, examples),
        local_steps=min(update.local_steps, steps),
        samples=samples,
        opened=opened,
        strength=strength,
    )
