"""How far one client may move the state, whatever it sends.

A change that is longer than a multiple of the round's median is made shorter, and one that is much longer still fades
(norm bounding: Z. Sun, P. Kairouz, A. T. Suresh, H. B. McMahan, "Can You Really Backdoor Federated Learning?",
2019, section 3.2, with a limit that the clients themselves set). Its length is that of what it does to the state: an
entry that few others sent counts for more, as it is averaged among few. Fewer than three lengths say nothing of what is
usual, so the last round's joins them.

Norm statistics are no steps from the base, and their scale is each channel's own (`statistics`). Clients that lie
together, half of a round or more, set the median: nothing here holds them.
"""

import dataclasses

import numpy as np

from fedgate.device_runtime.formats import slices
from fedgate.device_runtime.formats.update_spec import CONTROL

from .masked import ENOUGH, senders, take
from .norms import is_statistic
from .statistics import bounded_statistics

FAR, ABSURD = 2.5, 100.0  # times the longest change that passes whole: from where it fades, and counts no more
CHANGE, VARIATE = "typical/change", "typical/control"  # in a state's memory


def bounded_updates(updates, base, spec, strategy, memory, round_, weight_of, scale_of):
    """(updates that move the state no further than the strategy lets them, by client the share that is left of its
    change where not all is, what is remembered of the round). A share of 0: the update is none of them.

    base: the weights from which the clients started, and their control variates. weight_of: update -> its n_k;
    scale_of: what its change is multiplied with before the mean.
    """
    raw, counted = lengths(updates, base, spec, weight_of, scale_of)
    usual = typical(counted, before(memory, CHANGE, lambda: length_of(base, spec)))
    shares = [1.0] * len(updates)
    if strategy.bound:
        shares = [share_of(strategy.bound * usual, length) for length in counted]
        if sum(length > 0 for length in raw) >= ENOUGH:
            far = [strategy.bound * typical(raw, 0) * more / max(length, 1e-300)
                   for length, more in zip(raw, more_images(updates), strict=True)]  # fmt: skip
            shares = [share * fading(each) for share, each in zip(shares, far, strict=True)]
    if strategy.clip:
        shares = [min(share, share_of(strategy.clip, length)) for share, length in zip(shares, raw, strict=True)]
    remembered = {CHANGE: np.array([usual])} if strategy.bound else {}
    steps = [1.0] * len(updates)
    if strategy.bound and any(update.control for update in updates):
        found = [variate_length(update, base, spec) for update in updates]
        usual = typical(found, before(memory, VARIATE, lambda: 1.0))
        steps = [share_of(strategy.bound * usual, length) for length in found]
        remembered[VARIATE] = np.array([usual])
    told = {u.client: share for u, share in zip(updates, shares, strict=True) if share < 1}
    taken = [each for each in zip(updates, shares, steps, strict=True) if each[1] > 0]
    fitting = bounded_statistics([update for update, *_ in taken], base, spec, round_)
    made = [shrunk(update, *rest, base, spec) for update, (_, *rest) in zip(fitting, taken, strict=True)]
    return made, told, remembered


def fading(nearness):
    """What is left of a change beside being cut; nearness: the longest that passes whole, over its length."""
    return 0.0 if nearness * ABSURD < 1 else min(1.0, FAR * nearness) ** 2


def more_images(updates):
    """How many times as many examples as usual each update is of, at least 1: who trains on more moves further."""
    usual = typical([update.examples for update in updates], 0)
    return [max(1.0, update.examples / usual) for update in updates]


def lengths(updates, base, spec, weight_of, scale_of):
    """Of each client's change, over all that is averaged but norm statistics: (Euclidean lengths, lengths as counted).

    As counted, an entry's change is multiplied with the weight of all clients over that of those who sent it.
    """
    total = float(sum(map(weight_of, updates)))
    raw, counted = dict.fromkeys(map(id, updates), 0.0), dict.fromkeys(map(id, updates), 0.0)
    for name in spec.parameters:
        if is_statistic(name):
            continue
        there = senders(name, updates)
        weight = sum(float(weight_of(update)) * mask(name, update, spec) for update in there)
        for update in there:
            change = update.values[name].astype(np.float64) - take(name, base[name], update, spec)
            raw[id(update)] += (change**2).sum()
            alone = total / (take(name, weight, update, spec) if np.ndim(weight) else weight)
            with np.errstate(over="ignore"):
                counted[id(update)] += ((change * alone * scale_of(update)) ** 2).sum()
    return [raw[id(update)] ** 0.5 for update in updates], [counted[id(update)] ** 0.5 for update in updates]


def mask(name, update, spec):
    """Where a client's slice lies in the whole tensor; 1.0 for all of it."""
    axes = spec.axes[name]
    if all(len(update.channels[layer]) == spec.channels[layer] for layer in axes if layer is not None):
        return 1.0
    return slices.mask(spec.parameters[name], axes, update.channels, spec.channels)


def length_of(base, spec):
    """Of the weights themselves: what a first change is compared with where nothing else is known."""
    return sum((base[n].astype(np.float64) ** 2).sum() for n in spec.parameters if not is_statistic(n)) ** 0.5


def variate_length(update, base, spec):
    """Of the mean gradient c_k' - c_k + c that a client's change of its control variate claims."""
    return sum(((update.control[n] + variate(n, update, base, spec)) ** 2).sum() for n in update.control) ** 0.5


def variate(name, update, base, spec):
    """The slice of the server's control variate c that a client sent a change of, float64."""
    return (
        take(name, base[CONTROL + name], update, spec).astype(np.float64) if CONTROL + name in base else np.float64(0)
    )


def before(memory, key, otherwise):
    return float(memory[key][0]) if key in memory else otherwise()


def typical(found, last):
    """The lower median of the lengths that are not 0; fewer than `ENOUGH` are joined by the last round's, if any."""
    known = [length for length in found if length > 0]
    if last > 0:
        known += [last] * (ENOUGH - len(known))
    return sorted(known)[(len(known) - 1) // 2] if known else 0.0


def share_of(limit, length):
    """What is left of a change of some length; a limit of 0 is none, as nobody has moved yet."""
    return min(1.0, limit / length) if limit > 0 and length > 0 else 1.0


def shrunk(update, share, step, base, spec):
    """An update with a share of its change, its statistics' too, and of its control variate with step times it."""
    values, control = update.values, update.control
    if share < 1:
        starts = {name: take(name, base[name], update, spec).astype(np.float64) for name in values}
        values = {
            name: (starts[name] + share * (value - starts[name])).astype(np.float32) for name, value in values.items()
        }
    if share * step < 1 and control:
        told = {name: variate(name, update, base, spec) for name in control}
        control = {
            name: (share * step * (value + told[name]) - told[name]).astype(np.float32)
            for name, value in control.items()
        }
    return update if share == step == 1 else dataclasses.replace(update, values=values, control=control)
