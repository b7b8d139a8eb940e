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

MULTIPLE = 4
STRONGER = 10  # times the usual strength of a layer's strongest channel, a sample


def believe(turnout):
    """Bring the claims of a turnout's updates down; its rows tell what was not believed, as `bounded`."""
    updates = [update for update, _ in turnout.joined]
    usual = usual_examples(updates, turnout.run.parts)
    limits = usual_strengths(updates, turnout.run.salience.get("global"))
    joined = []
    for update, source in turnout.joined:
        examples, steps = most(turnout.run, update, source, usual)
        made = believed(update, examples, steps, limits)
        for name in ("examples", "local_steps"):
            said, taken = getattr(update, name), getattr(made, name)
            if said != taken:
                turnout.note(update.client, f"it claims {said} {name.replace('_', ' ')}, and {taken} are counted")
        turnout.count(update.client, made.examples)
        joined.append((made, source))
    turnout.joined = joined


def usual_examples(updates, parts):
    usual = typical([len(part) for part in parts], 0)
    return max(1, usual, typical([u.examples for u in updates], 0) if len(updates) >= ENOUGH else 0)


def most(run, update, source, usual):
    """How many examples and local steps of an update are believed."""
    config, here = run.config, update.client < len(run.parts)
    held, simulated = len(run.parts[update.client]) if here else 0, run.config.engine != "flower"
    examples = held if here and simulated else max(held, MULTIPLE * usual)
    steps = config.local_epochs * -(-min(update.examples, examples) // config.batch_size)
    return examples, steps if simulated and isinstance(source, Upload) else MULTIPLE * steps


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
