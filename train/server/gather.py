"""What the server has in hand when a round ends by the simulated clock: from the clients of the round, from those that
were late in earlier ones, and from the inbox.

A client that has not arrived yet is busy, and one whose update lies in the inbox has answered: neither is drawn.
"""

import math
from dataclasses import dataclass, field, replace

from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.formats.checks import Fields
from fedgate.device_runtime.formats.signed import TRAILER
from fedgate.device_runtime.formats.tensors import tensors_hash, unpack
from fedgate.device_runtime.formats.update import MOST, MOST_HEADER, decode_update
from fedgate.device_runtime.formats.update_spec import SERVER, Update
from fedgate.device_runtime.formats.uploads import held_round

from ..network.channels import kept_share
from .arrivals import Upload, close_round, rebased
from .claims import believe
from .clocks import training_macs
from .downloads import Broadcast
from .faults import damage, fault, lasts
from .inbox import Letter
from .outcome import NoResult
from .rows import client_row
from .selection import sample_clients


@dataclass
class Turnout:
    """What a round brought.

    joined: good updates to the present state, each with the upload or letter that it came by. waiting: uploads for
    later rounds. refused: letters, each with the reason. ended: simulated seconds since the run began.
    """

    run: object
    broadcast: Broadcast
    ended: float = 0.0
    joined: list[tuple[Update, Upload | Letter]] = field(default_factory=list)
    waiting: list[Upload] = field(default_factory=list)
    refused: list[tuple[Letter, str]] = field(default_factory=list)
    rows: list[dict] = field(default_factory=list)

    def row(self, client, status, **known):
        run = self.run
        if known.get("update"):
            known["kept_share"] = kept_share(known["update"], self.broadcast.spec)
        self.rows.append(client_row(run.layers, run.densities, run.state.round + 1, client, status, **known))

    def base(self, round_):
        """What an update to the present state or to an older one must look like, and that state: (spec, tensors)."""
        if round_ == self.run.state.round:
            return self.broadcast.spec, self.broadcast.public
        tensors = self.run.bases[round_]
        return replace(self.broadcast.spec, base_round=round_, base_hash=tensors_hash(tensors)), tensors

    def join(self, update, source, **known):
        """Take a good update to the present state or to an older one."""
        self.row(update.client, "used", update=update, base_round=update.base_round, **known)
        if update.base_round < self.run.state.round:
            spec, base = self.base(update.base_round)
            base, present = (
                spec.take({name: state[name] for name in update.values}, update.channels)
                for state in (base, self.broadcast.public)
            )
            update = rebased(update, base, present)
        self.joined.append((update, source))

    def note(self, client, text):
        """Tell in a client's row what of its update was not taken as it came."""
        for row in self.rows:
            if row["client"] == client and row["status"] == "used":
                row["bounded"] = f"{row['bounded']}; {text}" if row["bounded"] else text

    def count(self, client, examples):
        """Set how many examples of a client are counted."""
        for row in self.rows:
            if row["client"] == client and row["status"] == "used":
                row["examples"] = examples

    def letters(self):
        """Those that the round is done with, with the reason of refused ones."""
        return [(source, None) for _, source in self.joined if isinstance(source, Letter)] + self.refused

    def keep_for_later(self):
        """Nothing of this round is used: uploads wait for the next one, letters stay where they are."""
        self.waiting += [source for _, source in self.joined if isinstance(source, Upload)]
        self.joined = []
        for row in self.rows:
            row["status"] = "waiting" if row["status"] == "used" else row["status"]

    def refuse(self, reason, clients):
        """Take the updates of some clients back: they are not used, nor kept."""
        gone = [source for update, source in self.joined if update.client in clients]
        self.refused += [(source, reason) for source in gone if isinstance(source, Letter)]
        self.joined = [each for each in self.joined if each[0].client not in clients]
        for row in self.rows:
            if row["status"] == "used" and row["client"] in clients:
                row |= {"status": "refused", "reason": reason}


def gather(run, broadcast) -> Turnout:
    """Train the clients of a round and collect what is there at its end. `run` is left as it is."""
    turnout = Turnout(run, broadcast)
    read_inbox(turnout)
    late = still_fresh(turnout)
    absent = {upload.client for upload in late} | {update.client for update, _ in turnout.joined}
    answers = train_selected(turnout, [c for c in range(run.config.clients) if c not in absent])
    turnout.ended, in_time = close_round(
        run.clock, [upload for upload, _, _ in answers], run.config.deadline, run.config.wait_for
    )
    if late and not answers:  # everybody is busy
        limit = math.inf if run.config.deadline is None else run.clock + run.config.deadline
        turnout.ended = max(run.clock, min(limit, *(upload.arrives for upload in late)))
    for upload, update, known in answers:
        if update is None:
            turnout.row(upload.client, "refused" if known["reason"] else "dropped", **known)
        elif upload in in_time:
            turnout.join(update, upload, **known)
        else:
            turnout.row(upload.client, "waiting", update=update, **known)
            turnout.waiting.append(upload)
    for upload in late:
        if upload.arrives <= turnout.ended:
            turnout.join(decode_update(upload.blob, *turnout.base(upload.base_round)), upload, level=upload.level)
        else:
            turnout.waiting.append(upload)
    believe(turnout)
    turnout.rows.sort(key=lambda row: row["client"])
    return turnout


def still_fresh(turnout):
    """The late uploads whose base is not too old; the others are refused, and their clients are free again."""
    run, fresh = turnout.run, []
    for upload in run.waiting:
        reason = staleness(run, upload.base_round)
        if reason is None:
            fresh.append(upload)
        else:
            turnout.row(upload.client, "refused", reason=reason, base_round=upload.base_round, level=upload.level)
    return fresh


def staleness(run, base_round):
    """Why a base cannot be used in the round that follows the present state; None where it can."""
    age, most = run.state.round - base_round, run.config.max_staleness
    if age < 0:
        return f"its base is of round {base_round}, which is not done yet"
    return f"its base is {age} rounds old, and --max-staleness is {most}" if age > most else None


def train_selected(turnout, available):
    """Train a round's clients: a list of (upload, update or None, fields of the row)."""
    run, broadcast = turnout.run, turnout.broadcast
    config, done = run.config, run.state.round
    chosen = sample_clients(config.seed, done, available, config.clients, config.fraction_train, config.min_clients)
    faults = {client: fault(config.seed, done, client, config.drop_out, config.garbage) for client in chosen}
    working = [client for client in chosen if faults[client] != "drop-out"]
    results = {result.client: result for result in run.engine.train(working, broadcast, run.plan, run.clients)}
    answers = []
    for client in chosen:
        examples, level = len(run.parts[client]), run.client_levels[client]
        costs = training_macs(run.layers, run.densities, level) * examples * config.local_epochs
        received = len(broadcast.blob(held_round(run.clients.get(client, {}))))
        seconds = run.clocks.receiving(received) + run.clocks.training(client, costs)
        known = {"examples": examples, "level": level, "bytes_down": received, "reason": None}
        update, blob, state = None, b"", {}
        if faults[client] == "drop-out":
            seconds *= lasts(config.seed, done, client)
        elif isinstance(result := results[client], NoResult):
            known |= {"reason": result.reason, "bytes_down": result.bytes_down}
        else:
            blob, state = result.blob, result.state
            if faults[client] == "garbage":
                blob = damage(blob, config.seed, done, client)
            seconds += run.clocks.sending(len(blob))
            update, known["reason"] = judge(blob, *turnout.base(done))
            if update is not None and update.client != client:
                update, known["reason"] = None, f"the update says that it is of client {update.client}"
            if update is not None:
                known["examples"] = update.examples  # on a machine of its own a client may hold others
            known["bytes_down"] = received if result.bytes_down is None else result.bytes_down
            known |= {"loss": result.loss, "accuracy": result.accuracy, "bytes_up": len(blob)}
            known |= {"cpu_seconds": round(result.cpu_seconds, 3), "seconds": round(result.seconds, 3)}
        upload = Upload(client, done, run.clock + seconds, blob, state, level, good=update is not None)
        answers.append((upload, update, known | {"simulated_seconds": seconds}))
    return answers


def judge(blob, spec, base):
    """(update, None) of a good blob, (None, reason) of another; spec and base: of `Turnout.base`."""
    try:
        update = decode_update(blob, spec, base)
        return (None, "the update is a download") if update.client == SERVER else (update, None)
    except FedgateError as error:
        return None, str(error)


def read_inbox(turnout):
    """Take up the inbox's letters: one of each client, that of the oldest base first; others stay for later rounds.

    They are read one after the other: what is in memory at the end is one update of each client.
    """
    run, best = turnout.run, {}
    if run.inbox is None:
        return
    busy = {upload.client for upload in run.waiting}
    limit = turnout.broadcast.spec.most_bytes + MOST_HEADER + TRAILER
    for letter in run.inbox.letters(limit, run.state.round):
        update, reason, letter = open_letter(turnout, letter)
        if reason is not None:
            turnout.refused.append((letter, reason))
        elif update is not None and update.client not in busy:
            found = (update.base_round, letter.digest), update, letter
            best[update.client] = min(best.get(update.client, found), found, key=lambda each: each[0])
    for _, update, letter in sorted(best.values(), key=lambda each: each[0]):
        turnout.join(update, letter, bytes_up=len(letter.blob), file=letter.shown)


def open_letter(turnout, letter):
    """As `judge`, of a file that may be to any base, and may have come before: (update, reason, letter with its bytes).

    Neither an update nor a reason: it was changed meanwhile, and is left for the next round.
    """
    run = turnout.run
    if letter.too_large:
        return None, "the file is larger than any update for this network", letter
    if letter.digest in run.letters:
        return None, f"the same update was used in round {run.letters[letter.digest]}", letter
    file = run.inbox.read(letter)
    if file is None:
        return None, None, letter
    try:
        blob, client = run.senders.open(file)
        base_round = Fields(unpack(blob, "the update", MOST_HEADER)[1], "the update").whole("base_round", 0, MOST)
    except FedgateError as error:
        return None, str(error), letter
    reason = staleness(run, base_round)
    update, reason = (None, reason) if reason else judge(blob, *turnout.base(base_round))
    reason = reason or run.senders.why_not(client, update.client)
    return (None, reason, letter) if reason else (update, None, replace(letter, blob=file))
