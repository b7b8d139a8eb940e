"""Whether a client's changes follow from each other as those of training do.

Training brings weights part of the way to where they fit the client's images. So where the weights that a client starts
from have moved since it last sent a change, its change has turned against that move (the loss is curved upwards along
it), and not by more than the move: the weights that it ends with have moved along. That is so whatever the client holds
and the others do. A change that was negated has turned with the move, and so has one that was made of others' changes,
negated. Weights that were sent before have not moved along. (That a server can foresee a client's change by the
curvature: Z. Zhang, X. Cao, J. Jia, N. Z. Gong, "FLDetector: Defending Federated Learning Against Model Poisoning
Attacks via Detecting Malicious Clients", KDD 2022, section 4.1.)

What is remembered are sketches: entries with random signs, added up in `LENGTH` places, keep inner products to about
1 / sqrt(LENGTH) of the lengths (M. Charikar, K. Chen, M. Farach-Colton, "Finding Frequent Items in Data Streams", ICALP
2002).
"""

import functools

import numpy as np

from .bounds import typical
from .masked import ENOUGH, place
from .norms import is_statistic

LENGTH = 4093  # a prime: no shape of a tensor repeats in it
TURNED, MOST_TURNED = 0.5, 0.1  # times the median cosine, the other way, or a cosine: whichever is less
LAGGING, FOLLOWING = 0.2, 0.4  # a cosine, where the median goes along by one of so much
UNSURE = 4 / LENGTH**0.5  # a cosine of sketches that means nothing
SAME = 0.1  # times the way of the base: weights that are nearer to those of before
OUT = 2  # updates of a client that are not used after one that does not follow
CLIENTS = 1000  # whose last changes are remembered, at most
ROUNDS = 8  # whose starts are, beside those of these changes
# In a state's memory: with ROUND, or with ROUND/CLIENT.
BASE, USUAL, CHANGE, REFUSED = "base/", "usual/", "change/", "refused/"

REASONS = {
    "turned": "its change does not follow from its last one: it turned the way that the model went",
    "stays": "its change does not follow from its last one: its weights do not go along with the model",
    "same": "it sends the weights that it sent before, though the model has moved",
    "out": "its change did not follow from its last one a short while ago",
}


def inconsistent(updates, base, spec, memory, round_):
    """(by client the reason why its update is not used, what is remembered of the round).

    base: the weights, by name, that the updates are compared with, after `round_` rounds; of an update to an older
    state the change counts from that state. Half of a round or more do not follow together: then it is not they.
    """
    starts, lengths = by_round(memory, BASE), by_round(memory, USUAL)
    starts[round_] = sketch([base[name] for name in averaged(spec)])
    last, changes, found, turns, along = records(memory, CHANGE), {}, {}, {}, {}
    for update in updates:
        if update.base_round in starts:
            change = sketch([changed(name, update, base, spec) for name in averaged(spec)])
            changes |= {update.client: (update.base_round, change)} if change.any() else {}
    usual = typical([float(np.linalg.norm(change)) for _, change in changes.values()], 0)
    lengths[round_] = np.array([usual])
    for client in sorted(changes.keys() & last.keys()):
        (now, change), (then, before) = changes[client], last[client]
        moved = starts[now] - starts[then]
        way = np.linalg.norm(moved)
        if way <= 1e-5 * np.linalg.norm(starts[now]):
            continue
        if np.linalg.norm(change + moved - before) < SAME * way:
            found[client] = "same"
        turns[client] = cosine(unit(change) - unit(before), moved)
        shorter = lengths[now] / lengths[then] if lengths[then] > 0 else 1.0  # as learning rates fall
        along[client] = cosine(change + moved - shorter * before, moved)
    found |= dict.fromkeys(lagging(along), "stays") | dict.fromkeys(turned(turns), "turned") | found
    left = records(memory, REFUSED)
    still = {client: "out" for client, (_, rest) in left.items() if client in changes and client not in found}
    if 2 * len(found | still) >= len(updates):
        found, still = {}, {}
    left |= {client: (left[client][0], left[client][1] - 1) for client in still}
    left |= {client: (round_, np.array([OUT])) for client in found}
    reasons = {client: REASONS[why] for client, why in (found | still).items()}
    return reasons, remembered(last | changes, left, starts, lengths)


def averaged(spec):
    return [name for name in sorted(spec.parameters) if not is_statistic(name)]


def changed(name, update, base, spec):
    """What a client changed of a tensor, whole, float64; 0 where it sent nothing."""
    if name not in update.values:
        return np.zeros(spec.parameters[name])
    part, sent = place(name, update.values[name], update, spec)
    return np.where(sent, part - base[name], 0.0)


def unit(vector):
    return vector / np.linalg.norm(vector)


def cosine(one, two):
    """Of two vectors; 0 where one of them is as good as none."""
    size = np.linalg.norm(one) * np.linalg.norm(two)
    return float(one @ two / size) if size > 0 else 0.0


def turned(cosines):
    """The clients whose changes turned with the model, where those of most turned against it; cosines: by client."""
    middle = median(cosines)
    bar = max(UNSURE, min(MOST_TURNED, -TURNED * middle))
    return [client for client, cosine in cosines.items() if middle < 0 and cosine > bar]


def lagging(cosines):
    """The clients whose weights went against the model, where those of most went along. After long local training
    weights are where they fit the client, and hardly do: then nothing is said."""
    middle = median(cosines)
    return [client for client, cosine in cosines.items() if middle > FOLLOWING and cosine < -LAGGING]


def median(cosines):
    """0 where there are too few."""
    return float(np.median(list(cosines.values()))) if len(cosines) >= ENOUGH else 0.0


def sketch(arrays):
    """float64 (LENGTH,) of some tensors, or (N,) where their N entries are fewer: then it is the entries."""
    flat = np.concatenate([array.reshape(-1).astype(np.float64) for array in arrays])
    if len(flat) <= LENGTH:
        return flat
    flat = np.pad(flat * signs(len(flat)), (0, -len(flat) % LENGTH))
    return flat.reshape(-1, LENGTH).sum(0)


@functools.lru_cache(maxsize=2)
def signs(count):
    """int8 (count,): +1 and -1, the same ones always; raw bits, as they do not change with NumPy's versions."""
    words = np.random.PCG64(count).random_raw(-(-count // 64)).astype("<u8")
    return (2 * np.unpackbits(words.view(np.uint8))[:count]).astype(np.int8) - 1


def by_round(memory, kind):
    """By round what is remembered of a kind, float64."""
    return {int(key.removeprefix(kind)): v.astype(np.float64) for key, v in memory.items() if key.startswith(kind)}


def records(memory, kind):
    """By client what is remembered of a kind: (round, float64 array)."""
    found = {}
    for key, value in memory.items():
        if key.startswith(kind):
            round_, client = key.removeprefix(kind).split("/")
            found[int(client)] = int(round_), value.astype(np.float64)
    return found


def remembered(last, left, starts, lengths):
    """What a state's memory holds of them, float32: the newest clients, and the rounds that their changes are from."""
    newest = dict(sorted(last.items(), key=lambda item: (-item[1][0], item[0]))[:CLIENTS])
    needed = {round_ for round_, _ in newest.values()} | set(range(max(starts) - ROUNDS + 1, max(starts) + 1))
    kept = {f"{CHANGE}{round_}/{client}": change for client, (round_, change) in newest.items()}
    for client, (round_, rest) in left.items():
        kept |= {f"{REFUSED}{round_}/{client}": rest} if client in newest and rest else {}
    for kind, known in ((BASE, starts), (USUAL, lengths)):
        kept |= {f"{kind}{round_}": array for round_, array in known.items() if round_ in needed}
    most = float(np.finfo(np.float32).max)
    return {key: kept[key].clip(-most, most).astype(np.float32) for key in sorted(kept)}
