"""Every option of a training run, resolved and checked; what `config.json` of a run directory holds."""

import dataclasses
import json
import typing
from dataclasses import dataclass
from pathlib import Path

from fedgate.device_runtime.errors import UsageError, choose

from .config_checks import check
from .selection import parse_capacity

# Where JSON's type is another than the field's.
JSON_KINDS = {
    float: int | float,
    float | None: int | float | None,
    tuple[float, ...]: list,
    tuple[float, ...] | None: list,
}


@dataclass(frozen=True)
class TrainConfig:
    """One field for each option of `fedgate train` that a run's result depends on.

    gate and density, where None, follow from each other: see `__post_init__`.
    """

    data: str = "digits"
    label: str | None = None
    group: str | None = None
    image: str | None = None
    image_size: int | None = None
    background: str = "white"
    skip_unreadable: bool = False
    clients: int = 8
    partition: str = "dirichlet:0.3"
    model: str = "cnn"
    width: float = 1.0
    hidden_width: float = 1.0
    gate: str | None = None
    gated: str = "all"
    density: tuple[float, ...] | None = None
    density_schedule: float = 0.5
    capacity: str | None = None
    rounds: int = 20
    fraction_train: float = 1.0
    min_clients: int = 1
    deadline: float | None = None
    wait_for: int | None = None
    max_staleness: int = 2
    inbox: str | None = None
    inbox_unsigned: bool = False
    client_speed: float = 1.0
    speed_spread: str = "0"
    uplink: str = "10Mbit"
    downlink: str = "50Mbit"
    drop_out: float = 0.0
    garbage: float = 0.0
    local_epochs: int = 2
    batch_size: int = 32
    lr: float = 0.1
    lr_schedule: str = "cosine"
    lr_decay: float = 0.99
    momentum: float = 0.9
    weight_decay: float = 5e-4
    clip_norm: float = 1.0
    adaptive_gradient: bool = True
    algorithm: str = "fedavg"
    proximal_mu: float = 0.01
    server_optimizer: str = "none"
    server_lr: float | None = None
    server_momentum: float = 0.9
    clip_update: float = 0.0
    clip_to_median: float = 2.0
    robust: str = "none"
    reestimate_norms: bool = False
    trainable: str = "all"
    base: str | None = None
    upload: str = "salient"
    upload_share: float = 1.0
    codec: str = "fp32"
    download_codec: str = "fp32"
    augment: str = "auto"
    precision: str = "auto"
    device: str = "auto"
    engine: str = "auto"
    seed: int = 0

    def __post_init__(self):
        capacities = () if self.capacity is None else tuple(density for density, _ in parse_capacity(self.capacity))
        if self.gate is None:  # a slim network is as good as gates that nobody asked for (docs/measured.md)
            object.__setattr__(self, "gate", "none" if self.density is None and not capacities else "paper")
        if self.density is None:
            object.__setattr__(self, "density", capacities or ((1.0,) if self.gate in ("none", "scale") else (0.5,)))
        object.__setattr__(self, "density", tuple(float(d) for d in self.density))
        for capacity in capacities:
            choose("density of --capacity", f"{capacity:g}", [f"{density:g}" for density in self.density])
        # A resumed run must find the user's files from any folder.
        if ":" in self.model:
            object.__setattr__(self, "model", str(Path(self.model).absolute()))
        if self.data != "digits" and Path(self.data).expanduser().exists():
            object.__setattr__(self, "data", str(Path(self.data).expanduser().absolute()))
        if self.inbox is not None:
            object.__setattr__(self, "inbox", str(Path(self.inbox).expanduser().absolute()))
        if self.base is not None:
            object.__setattr__(self, "base", str(Path(self.base).expanduser().absolute()))
        if self.trainable != "all":
            object.__setattr__(self, "density_schedule", 0.0)  # a trunk is tied to its densities
        check(self)

    def to_json(self):
        """Canonical JSON text: equal configurations give equal bytes."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, indent=1)

    @classmethod
    def from_json(cls, text):
        """The inverse of `to_json`; anything else is a `UsageError`.

        An option that is missing, as it was added to fedgate after the text was written, has its default. One that is
        unknown, of a later fedgate, is refused.
        """
        try:
            fields = json.loads(text)
            kinds = typing.get_type_hints(cls)
            if not isinstance(fields, dict):
                raise TypeError("it is no object")
            if unknown := sorted(fields.keys() - kinds.keys()):
                raise UsageError(f"the configuration has unknown options: {', '.join(unknown)}")
            for name, value in fields.items():
                if not isinstance(value, JSON_KINDS.get(kinds[name], kinds[name])):
                    raise TypeError(f"{name} is {value!r}")
            return cls(**fields)
        except (ValueError, TypeError) as error:
            raise UsageError(f"the configuration is damaged: {error}") from error
