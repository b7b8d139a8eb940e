"""Where a local training stands: all that it needs to go on to the same bytes after an interruption."""

from dataclasses import dataclass, field, replace

import numpy as np

from ..errors import FedgateError

ARRAYS = ("touched", "opened", "strength", "sums")
COUNTS = ("epoch", "batch", "steps", "samples")


@dataclass(frozen=True)
class TailState:
    """A tail after some steps; a step makes a new one. Treat the arrays as read-only.

    parameters, momentum: float32 by name. epoch, batch: those done, batches of the present epoch. steps: of all epochs.
    touched: uint8 (channels,), which channels any batch opened so far. The salience record of the present epoch:
    opened int64 and strength float64 (channels,), and the number of its samples; strength of the trunk's layers is 0.
    sums: float64 (2,), loss and correct answers of the present epoch, over its samples. channels: of the whole
    network's masks, the trunk's first.
    """

    parameters: dict[str, np.ndarray]
    momentum: dict[str, np.ndarray]
    touched: np.ndarray
    opened: np.ndarray
    strength: np.ndarray
    sums: np.ndarray = field(default_factory=lambda: np.zeros(2))
    epoch: int = 0
    batch: int = 0
    steps: int = 0
    samples: int = 0

    @property
    def loss(self) -> float:
        """Mean over the samples of the present epoch, as they were trained on."""
        return float(self.sums[0]) / max(1, self.samples)

    @property
    def accuracy(self) -> float:
        return float(self.sums[1]) / max(1, self.samples)


def initial_state(parameters: dict[str, np.ndarray], channels: int) -> TailState:
    return TailState(
        parameters=dict(parameters),
        momentum={name: np.zeros_like(value) for name, value in parameters.items()},
        touched=np.zeros(channels, np.uint8),
        opened=np.zeros(channels, np.int64),
        strength=np.zeros(channels),
    )


def new_epoch(state: TailState) -> TailState:
    """The state as an epoch begins: records and sums are of one epoch each."""
    zeros = {name: np.zeros_like(getattr(state, name)) for name in ("opened", "strength", "sums")}
    return replace(state, **zeros, batch=0, samples=0)


def state_arrays(state: TailState, prefix: str) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """The state as named arrays, and the counts that go into a JSON object."""
    arrays = {f"{prefix}parameters/{name}": value for name, value in state.parameters.items()}
    arrays |= {f"{prefix}momentum/{name}": value for name, value in state.momentum.items()}
    arrays |= {f"{prefix}{name}": getattr(state, name) for name in ARRAYS}
    return arrays, {name: getattr(state, name) for name in COUNTS}


def state_from_arrays(arrays: dict[str, np.ndarray], counts: dict, prefix: str) -> TailState:
    """The inverse; arrays of other prefixes are left alone. Raises `FedgateError` for a file that lacks some."""

    def part(kind):
        start = f"{prefix}{kind}/"
        return {name.removeprefix(start): value for name, value in arrays.items() if name.startswith(start)}

    try:
        own = {name: arrays[prefix + name] for name in ARRAYS}
        return TailState(part("parameters"), part("momentum"), **own, **{name: counts[name] for name in COUNTS})
    except (KeyError, TypeError) as error:
        raise FedgateError(f"the saved state of the fine-tuning lacks {error}") from error
