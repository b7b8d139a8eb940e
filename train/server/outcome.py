"""What became of the clients of a round, as far as it is decided. Each later judgement makes new ones."""

from dataclasses import dataclass, replace

from fedgate.device_runtime.formats.update_spec import Update

from .arrivals import Upload
from .inbox import Letter


@dataclass(frozen=True, eq=False)
class ClientOutcome:
    """What became of one client.

    status: "used" in the round's state; "waiting", good but late, or too few came, and kept for a later round;
    "refused", with the reason; "dropped", it vanished. base_round: of the state that it has an update to. bounded: what
    of a used update was not taken as it came.
    source: how the update came. came: the update as it was sent. update: as it is counted, with claims that are
    believed and as one to the present state. examples: how many the server takes a client to hold that it asked.
    bytes_up, bytes_down: of this round; simulated_seconds: since it began.
    """

    client: int
    status: str
    base_round: int
    reason: str | None = None
    bounded: tuple[str, ...] = ()
    level: int | None = None
    source: Upload | Letter | None = None
    came: Update | None = None
    update: Update | None = None
    examples: int | None = None
    loss: float | None = None
    accuracy: float | None = None
    bytes_up: int = 0
    bytes_down: int = 0
    simulated_seconds: float | None = None
    cpu_seconds: float = 0.0
    seconds: float = 0.0

    @property
    def counted(self):
        """How many examples it counts for."""
        return self.examples if self.update is None else self.update.examples


@dataclass(frozen=True, eq=False)
class Turnout:
    """What a round brought.

    outcomes: in the order in which they came in; a client whose late update was refused may be there once more.
    waiting: uploads for later rounds, also those that have not arrived yet. refused: letters, each with the reason.
    ended: when the round ends, in simulated seconds since the run began.
    """

    outcomes: tuple[ClientOutcome, ...] = ()
    waiting: tuple[Upload, ...] = ()
    refused: tuple[tuple[Letter, str], ...] = ()
    ended: float = 0.0

    @property
    def used(self):
        """The outcomes whose updates make the next state, one a client."""
        return [outcome for outcome in self.outcomes if outcome.status == "used"]

    @property
    def letters(self):
        """Those that the round is done with: used ones, then the refused with their reasons."""
        return [(each.source, None) for each in self.used if isinstance(each.source, Letter)] + list(self.refused)

    def with_used(self, judged):
        """With these outcomes in the place of their clients' used ones."""
        new = {outcome.client: outcome for outcome in judged}
        outcomes = tuple(new.get(old.client, old) if old.status == "used" else old for old in self.outcomes)
        return replace(self, outcomes=outcomes)

    def bounded(self, texts):
        """With what of some used updates is not taken as it came, by client in words."""
        return self.with_used(
            [replace(o, bounded=(*o.bounded, texts[o.client])) for o in self.used if o.client in texts]
        )

    def refuse(self, reasons):
        """With the used updates of some clients taken back, by client the reason: they are neither used nor kept."""
        gone = {each.client: each for each in self.used if each.client in reasons}
        letters = tuple((gone[c].source, why) for c, why in reasons.items() if isinstance(gone[c].source, Letter))
        judged = [replace(gone[client], status="refused", reason=why) for client, why in reasons.items()]
        return replace(self.with_used(judged), refused=self.refused + letters)

    def keep_for_later(self):
        """With nothing used: uploads wait for the next round, letters stay where they are."""
        uploads = tuple(each.source for each in self.used if isinstance(each.source, Upload))
        kept = self.with_used([replace(each, status="waiting") for each in self.used])
        return replace(kept, waiting=self.waiting + uploads)
