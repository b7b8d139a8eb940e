"""What a round asks of an engine, and what it hears of it: all that the server and the engines know of each other.

An engine is handed to a run (`engines.make.open_run`). It gets tasks and gives results; which clients take part, what
becomes of what they send, and what the next state is, are the server's.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from fedgate.device_runtime.formats.uploads import held_round

from ..local.client import LocalPlan
from ..local.evaluation import Evaluation
from .checkpoint import ClientState
from .downloads import Broadcast


@dataclass(frozen=True, eq=False)
class Task:
    """What a client is asked to do in a round. state: what it keeps since an update of it was last used.

    broadcast: of the round, the same for all; it has a download for whatever a client turns out to hold.
    """

    client: int
    plan: LocalPlan
    broadcast: Broadcast
    state: ClientState

    @property
    def held(self):
        """The round whose weights the client is believed to hold, None for nothing."""
        return held_round(self.state)

    @property
    def download(self):
        """What it is sent, as bytes."""
        return self.broadcast.blob(self.held)

    @property
    def base(self):
        """The weights that it holds, by name, which the download brings up to date; None for nothing."""
        return self.broadcast.held(self.held)


@dataclass(frozen=True, eq=False)
class TaskResult:
    """What a client's training gives: the update blob for the server, what the client keeps, figures for the log."""

    client: int
    blob: bytes
    state: ClientState
    loss: float
    accuracy: float
    cpu_seconds: float
    seconds: float
    bytes_down: int | None = None  # where it was sent something else than the one download


@dataclass(frozen=True)
class NoResult:
    """A client that was asked and gave nothing: it vanished (no reason), or it says why."""

    client: int
    reason: str | None
    bytes_down: int = 0


class Engine(Protocol):
    """What trains and evaluates the clients of a run. A blob that comes back is a stranger's: the server checks it."""

    def train(self, tasks: Iterable[Task]) -> Iterator[TaskResult | NoResult]:
        """Do a round's tasks; one result for each, in any order."""

    def evaluate(self, tensors, densities) -> Evaluation:
        """Evaluate the whole test set with tensors by name, each level at its density."""

    def measure_norms(self, levels, tensors, densities, run, round_) -> Iterable[bytes]:
        """The blobs of `local.norms` of some clients, in the order of `levels`: by client those that it trains."""

    def close(self, at_once=False):
        """Let go of workers and connections: when they are idle, or at once where a round was interrupted."""
