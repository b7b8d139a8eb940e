"""What the server has in hand when a round ends by the simulated clock: from the clients of the round, from those that
were late in earlier ones, and from the inbox.

A client that has not arrived yet is busy, and one whose update lies in the inbox has answered: neither is drawn.
"""

import math
from dataclasses import replace

from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.formats.update import decode_update
from fedgate.device_runtime.formats.update_spec import SERVER

from .arrivals import Upload, close_round
from .clocks import training_macs
from .engine import Engine, NoResult
from .faults import damage, fault, lasts
from .outcome import ClientOutcome, Turnout
from .round_input import RoundInput
from .selection import sample_clients


def gather(start: RoundInput, engine: Engine, inbox: Turnout) -> Turnout:
    """Train the clients of a round and collect what is there at its end. inbox: what came as files."""
    config, clock = start.config, start.clock
    fresh, stale = sorted_by_age(start)
    absent = {upload.client for upload in fresh} | {outcome.client for outcome in inbox.outcomes}
    answers = train_selected(start, engine, [c for c in range(config.clients) if c not in absent])
    ended, in_time = close_round(clock, [answer.source for answer in answers], config.deadline, config.wait_for)
    if fresh and not answers:  # everybody is busy
        limit = math.inf if config.deadline is None else clock + config.deadline
        ended = max(clock, min(limit, *(upload.arrives for upload in fresh)))
    in_time = set(in_time)
    answers = [
        replace(each, status="waiting") if each.status == "used" and each.source not in in_time else each
        for each in answers
    ]
    joined = [late_outcome(start, upload) for upload in fresh if upload.arrives <= ended]
    waiting = [each.source for each in answers if each.status == "waiting"]
    waiting += [upload for upload in fresh if upload.arrives > ended]
    return Turnout((*inbox.outcomes, *stale, *answers, *joined), tuple(waiting), inbox.refused, ended)


def sorted_by_age(start):
    """The late uploads whose base is not too old, and the outcomes of the others, whose clients are free again."""
    fresh, stale = [], []
    for upload in start.waiting:
        reason = start.staleness(upload.base_round)
        if reason is None:
            fresh.append(upload)
        else:
            stale.append(ClientOutcome(upload.client, "refused", upload.base_round, reason, level=upload.level))
    return fresh, stale


def late_outcome(start, upload):
    """The outcome of an upload of an earlier round, which was checked when it was sent."""
    return good_outcome(start, decode_update(upload.blob, *start.base(upload.base_round)), upload, level=upload.level)


def good_outcome(start, update, source, **known):
    """The outcome of a good update to the present state or to an older one; known: other fields of it."""
    present = start.to_present(update)
    return ClientOutcome(update.client, "used", update.base_round, source=source, came=update, update=present, **known)


def train_selected(start, engine, available):
    """Train a round's clients; their outcomes, good ones as if all came in time."""
    config, done = start.config, start.done
    chosen = sample_clients(config.seed, done, available, config.clients, config.fraction_train, config.min_clients)
    faults = {client: fault(config.seed, done, client, config.drop_out, config.garbage) for client in chosen}
    tasks = {client: start.task(client) for client in chosen}
    working = [tasks[client] for client in chosen if faults[client] != "drop-out"]
    results = {result.client: result for result in engine.train(working)}
    return [answer(start, tasks[client], faults[client], results.get(client)) for client in chosen]


def answer(start, task, fault_, result):
    """The outcome of a task. fault_: the simulated one. result: of the engine, None where the client dropped out."""
    config, done, client, clocks = start.config, start.done, task.client, start.clocks
    examples, level = start.examples[client], start.levels[client]
    teacher = start.info.resolved.get("teacher", {}).get("macs", 0)
    received = len(task.download) + start.teacher_bytes(client)
    each = training_macs(start.network.layers, start.densities, level) + teacher
    costs = each * examples * config.local_epochs
    seconds = clocks.receiving(received) + clocks.training(client, costs)
    update, blob, state, reason, known = None, b"", {}, None, {"bytes_down": received}
    if fault_ == "drop-out":
        seconds *= lasts(config.seed, done, client)
    elif isinstance(result, NoResult):
        reason, known["bytes_down"] = result.reason, result.bytes_down
    else:
        blob, state = result.blob, result.state
        if fault_ == "garbage":
            blob = damage(blob, config.seed, done, client)
        seconds += clocks.sending(len(blob))
        update, reason = judge(blob, *start.base(done))
        if update is not None and update.client != client:
            update, reason = None, f"the update says that it is of client {update.client}"
        known["bytes_down"] = received if result.bytes_down is None else result.bytes_down
        known |= {"loss": result.loss, "accuracy": result.accuracy, "bytes_up": len(blob)}
        known |= {"cpu_seconds": result.cpu_seconds, "seconds": result.seconds}
    upload = Upload(client, done, start.clock + seconds, blob, state, level, good=update is not None)
    known |= {"level": level, "examples": examples, "simulated_seconds": seconds}
    if update is not None:
        return good_outcome(start, update, upload, **known)
    return ClientOutcome(client, "refused" if reason else "dropped", done, reason, source=upload, **known)


def judge(blob, spec, base):
    """(update, None) of a good blob, (None, reason) of another; spec and base: of `RoundInput.base`."""
    try:
        update = decode_update(blob, spec, base)
        return (None, "the update is a download") if update.client == SERVER else (update, None)
    except FedgateError as error:
        return None, str(error)
