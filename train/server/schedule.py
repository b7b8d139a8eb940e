"""What changes from round to round: the densities and the learning rate, as pure functions of the round."""

import math


def densities_at(targets, round_index, rounds, share):
    """Densities of a round (0-based): each falls linearly from 1.0 to its target over the first `share` of the rounds.

    Accuracy is lost when a density drops at once.
    """
    ramp = share * rounds
    if round_index >= ramp:
        return tuple(targets)
    return tuple(1.0 - (1.0 - target) * round_index / ramp for target in targets)


def learning_rate_at(base, round_index, rounds, schedule, decay=1.0, epochs=0.0):
    """Learning rate at the start of a round (0-based).

    "constant"; "cosine" from `base` towards zero; or "exponential", `base` times `decay` for each epoch that a client
    has trained by then: `epochs` a round, on average over the clients, so that all of a round start with one rate.
    """
    if schedule == "constant":
        return base
    if schedule == "exponential":
        return base * decay ** (round_index * epochs)
    return base * 0.5 * (1.0 + math.cos(math.pi * round_index / rounds))
