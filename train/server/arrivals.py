"""When a round ends by the simulated clock, who is in time, and what becomes of updates that arrive late.

A late update is kept. It joins the first round that is still going on when it arrives, if its base is by then at most
`--max-staleness` rounds old: what it changed, its values less those of its own base, is added to the present state,
and the sum is averaged with the others by examples. Norm statistics are averaged as they came: they are no steps from
the base, and a variance plus a difference of variances may lie below zero.
Buffered asynchronous training does so too: J. Nguyen, K. Malik, H. Zhan, A. Yousefpour, M. Rabbat, M. Malek, D. Huba,
"Federated Learning with Buffered Asynchronous Aggregation", AISTATS 2022, algorithm 1.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from ..strategies.norms import is_statistic


@dataclass(frozen=True, eq=False)
class Upload:
    """A client's answer to a round; arrives: simulated seconds since the run began.

    blob: empty where the client vanished, and `arrives` is when its connection broke. state: what the client will keep
    once the server has used the update. level: which one it trained, None for all. good: the blob passed its checks.
    """

    client: int
    base_round: int
    arrives: float
    blob: bytes
    state: dict[str, np.ndarray]
    level: int | None = None
    good: bool = True


def close_round(started, uploads, deadline=None, wait_for=None):
    """When a round ends, and which of its uploads are in time: (seconds since the run began, uploads as they arrive).

    It ends when all have arrived or broken off; at the latest `deadline` seconds after `started`; or with the good
    upload number `wait_for`. Equal arrivals count in the order of clients.
    """
    limit = math.inf if deadline is None else started + deadline
    in_time, good = [], 0
    for upload in sorted(uploads, key=lambda each: (each.arrives, each.client)):
        if upload.arrives > limit:
            return limit, in_time
        in_time.append(upload)
        good += upload.good
        if good == wait_for:
            break
    return (in_time[-1].arrives if in_time else started), in_time


def rebased(update, base, present):
    """A stale update as one to the present state.

    base, present: tensors by name of the state that the client started from, and of the one that its update joins,
    each cut as the update's values are.
    """
    values, most = {}, np.finfo(np.float32).max
    for name, value in update.values.items():
        if is_statistic(name):
            values[name] = value
        else:
            moved = value.astype(np.float64) - base[name]
            values[name] = np.clip(present[name] + moved, -most, most).astype(np.float32)
    return replace(update, values=values)


def bases_needed(round_, waiting, max_staleness, from_outside):
    """The rounds before `round_` whose states later updates may refer to, in increasing order.

    waiting: late uploads. from_outside: whether updates may come with any base within the staleness.
    """
    window = range(max(0, round_ - max_staleness), round_)
    wanted = {upload.base_round for upload in waiting}
    return [base for base in window if from_outside or base in wanted]
