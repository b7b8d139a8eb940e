"""An update as its receiver holds it, and what a receiver expects of one."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from .codec import CODECS, tensor_lengths
from .slices import Axes, put, slice_shape, take

SERVER = -1
CONTROL = "control/"


@dataclass(frozen=True)
class Update:
    """A client's result of one round, or (client -1) the server's weights at its start.

    channels: by gated layer the channels between which `values` (float32, absolute weights) are sent, uint16, sorted.
    control: by parameter the same slice of the change of a client's control variate (SCAFFOLD), or of the server's
    control variate in a download; empty for other algorithms.
    levels: those that were trained; `values` has no norms of the others. `samples[i]` counts the samples seen at level
    i; `opened[layer]` uint32 and `strength[layer]` float32, both (levels, C), count how often and sum how strongly each
    channel was opened by them.
    """

    run: str
    base_round: int
    base_hash: str
    client: int
    examples: int
    local_steps: int
    samples: tuple[int, ...]
    channels: dict[str, np.ndarray]
    values: dict[str, np.ndarray]
    control: dict[str, np.ndarray] = field(default_factory=dict)
    opened: dict[str, np.ndarray] = field(default_factory=dict)
    strength: dict[str, np.ndarray] = field(default_factory=dict)
    codec: str = "fp32"
    levels: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class UpdateSpec:
    """What a receiver expects, by name: shapes and axes of parameters, C of gated layers; and the base.

    levels: how many the network has. level_of: the level to which a parameter belongs, where there are several.
    control: the parameters that have a control variate.
    """

    parameters: dict[str, tuple[int, ...]]
    axes: dict[str, Axes]
    channels: dict[str, int]
    levels: int
    run: str
    base_round: int
    base_hash: str
    level_of: dict[str, int] = field(default_factory=dict)
    control: tuple[str, ...] = ()

    def all_channels(self) -> dict[str, np.ndarray]:
        """Every channel of every gated layer: what a full update keeps."""
        return {layer: np.arange(c, dtype=np.uint16) for layer, c in self.channels.items()}

    def slices(self, channels: dict[str, np.ndarray], levels) -> dict[str, tuple[int, ...]]:
        """Name -> shape of each slice between kept channels at these levels, in the order in which they are sent."""
        names = [name for name in sorted(self.parameters) if self.level_of.get(name) in (None, *levels)]
        names += [CONTROL + name for name in sorted(self.control)]
        return {name: slice_shape(self.shape(name), self.axes_of(name), channels, self.channels) for name in names}

    @cached_property
    def most_bytes(self) -> int:
        """No update has more bytes beside its header."""
        shapes = self.slices(self.all_channels(), range(self.levels))
        values = (
            sum(dtype.itemsize * length for dtype, length in tensor_lengths(codec, shapes).values()) for codec in CODECS
        )
        return 8 + max(values) + 4 * len(self.channels) + (2 + 8 * self.levels) * sum(self.channels.values())

    def take(self, tensors: dict[str, np.ndarray], channels: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The slices of named tensors ("control/PARAMETER" too) between kept channels."""
        return {name: take(value, self.axes_of(name), channels, self.channels) for name, value in tensors.items()}

    def put(self, tensors: dict[str, np.ndarray], channels: dict[str, np.ndarray], parts: dict) -> None:
        """Write slices, as `take` gives them, into `tensors`."""
        for name, part in parts.items():
            put(tensors[name], self.axes_of(name), channels, self.channels, part)

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a tensor, "control/PARAMETER" too."""
        return self.parameters[name.removeprefix(CONTROL)]

    def axes_of(self, name: str) -> Axes:
        return self.axes[name.removeprefix(CONTROL)]
