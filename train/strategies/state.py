"""What the server carries from round to round."""

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class ServerState:
    """round: the number of rounds done. tensors: parameters and norm statistics by name, float32.

    public: the weights that the clients of the last round were given, as `tensors`; empty before the first. changed: by
    gated layer, int32 (C,), the last round whose aggregation changed anything that the channel indexes.
    memory: what the algorithm remembers beside them, as PURPOSE/NAME.
    """

    round: int
    tensors: dict[str, np.ndarray]
    public: dict[str, np.ndarray] = field(default_factory=dict)
    changed: dict[str, np.ndarray] = field(default_factory=dict)
    memory: dict[str, np.ndarray] = field(default_factory=dict)
