"""What the server hears of a client that it asked to train."""

from dataclasses import dataclass

from .checkpoint import ClientState


@dataclass(frozen=True)
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
