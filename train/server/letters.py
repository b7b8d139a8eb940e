"""The inbox's part in a round: which of its files are updates that join, and where they go when the round is done."""

from dataclasses import replace

from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.formats.checks import Fields
from fedgate.device_runtime.formats.signed import TRAILER
from fedgate.device_runtime.formats.tensors import unpack
from fedgate.device_runtime.formats.update import MOST, MOST_HEADER

from .gather import good_outcome, judge
from .outcome import Turnout
from .round_input import RoundInput


def read_letters(start: RoundInput, inbox, senders) -> Turnout:
    """Take up the inbox's letters: one of each client, that of the oldest base first; others stay for later rounds.

    They are read one after the other: what is in memory at the end is one update of each client. inbox: None for none.
    """
    if inbox is None:
        return Turnout()
    best, refused = {}, []
    busy = {upload.client for upload in start.waiting}
    limit = start.broadcast.spec.most_bytes + MOST_HEADER + TRAILER
    for found in inbox.letters(limit, start.done):
        update, reason, letter = open_letter(start, inbox, senders, found)
        if reason is not None:
            refused.append((letter, reason))
        elif update is not None and update.client not in busy:
            candidate = (update.base_round, letter.digest), update, letter
            best[update.client] = min(best.get(update.client, candidate), candidate, key=lambda each: each[0])
    chosen = sorted(best.values(), key=lambda each: each[0])
    outcomes = [good_outcome(start, update, letter, bytes_up=len(letter.blob)) for _, update, letter in chosen]
    return Turnout(tuple(outcomes), refused=tuple(refused))


def open_letter(start, inbox, senders, letter):
    """As `judge`, of a file that may be to any base, and may have come before: (update, reason, letter with its bytes).

    Neither an update nor a reason: it was changed meanwhile, and is left for the next round.
    """
    if letter.too_large:
        return None, "the file is larger than any update for this network", letter
    if letter.digest in start.letters:
        return None, f"the same update was used in round {start.letters[letter.digest]}", letter
    file = inbox.read(letter)
    if file is None:
        return None, None, letter
    try:
        blob, client = senders.open(file)
        base_round = Fields(unpack(blob, "the update", MOST_HEADER)[1], "the update").whole("base_round", 0, MOST)
    except FedgateError as error:
        return None, str(error), letter
    reason = start.staleness(base_round)
    update, reason = (None, reason) if reason else judge(blob, *start.base(base_round))
    reason = reason or senders.why_not(client, update.client)
    return (None, reason, letter) if reason else (update, None, replace(letter, blob=file))


def put_away(start: RoundInput, inbox, turnout: Turnout):
    """Move the files that a round is done with: ({"file", "reason"} of each that it tells of, `letters` after it)."""
    told, letters, round_ = [{"file": each.shown, "reason": why} for each, why in turnout.refused], {}, start.done + 1
    if inbox is None:
        return told, start.letters
    for letter, why in turnout.letters:
        if why is None:
            letters[letter.digest] = round_
        problem = inbox.move(letter, round_, why)
        if problem is not None:
            told.append({"file": letter.shown, "reason": problem})
    # An update that came before is refused as stale once its base is.
    oldest = round_ - start.config.max_staleness - 1
    letters = {digest: used for digest, used in (start.letters | letters).items() if used >= oldest}
    return told + inbox.told, letters
