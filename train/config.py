"""Every option of a training run, resolved and checked; what `config.json` of a run directory holds."""

import dataclasses
import json
import typing
from dataclasses import dataclass
from pathlib import Path

from fedgate.device_runtime.codec import CODECS
from fedgate.device_runtime.errors import UsageError, choose

from .clocks import parse_rate, parse_spread
from .gates import check_gate
from .selection import parse_capacity
from .strategies import ALGORITHMS, ROBUST, SERVER_OPTIMIZERS
from .tails import TRAINABLE

SCHEDULES = ("cosine", "constant", "exponential")
ENGINES = ("auto", "loop", "cohort", "flower")
PRECISIONS = ("auto", "fp32", "bf16")
UPLOADS = ("salient", "full")
AUGMENTATIONS = ("auto", "none", "crop", "crop-flip")
# Where JSON's type is another than the field's.
JSON_KINDS = {float: int | float, float | None: int | float | None, tuple[float, ...]: list}


@dataclass(frozen=True)
class TrainConfig:
    """One field for each option of `fedgate train` that a run's result depends on."""

    data: str = "digits"
    label: str | None = None
    group: str | None = None
    image_size: int | None = None
    clients: int = 8
    partition: str = "dirichlet:0.3"
    model: str = "cnn"
    width: float = 1.0
    gate: str = "paper"
    density: tuple[float, ...] = (0.5,)
    density_schedule: float = 0.5
    capacity: str | None = None
    rounds: int = 20
    fraction_train: float = 1.0
    min_clients: int = 1
    deadline: float | None = None
    wait_for: int | None = None
    max_staleness: int = 2
    inbox: str | None = None
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
        object.__setattr__(self, "density", tuple(float(d) for d in self.density))
        if self.gate in ("none", "scale") and self.density == TrainConfig.density:
            object.__setattr__(self, "density", (1.0,))  # the default density is meant for gates that close channels
        if self.capacity is not None:
            capacities = tuple(density for density, _ in parse_capacity(self.capacity))
            if self.density == TrainConfig.density:
                object.__setattr__(self, "density", capacities)
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
        choose("trainable part", self.trainable, TRAINABLE)
        if self.trainable != "all":
            if self.base is None:
                raise UsageError(f"--trainable {self.trainable} needs the run that its trunk comes from: --base RUN")
            if self.reestimate_norms:
                raise UsageError(f"--trainable {self.trainable} keeps norm statistics that --reestimate-norms replaces")
            object.__setattr__(self, "density_schedule", 0.0)  # a trunk is tied to its densities
        check_gate(self.gate, self.density)
        choose("learning-rate schedule", self.lr_schedule, SCHEDULES)
        choose("algorithm", self.algorithm, ALGORITHMS)
        choose("server optimizer", self.server_optimizer, SERVER_OPTIMIZERS)
        choose("robust aggregation", self.robust, ROBUST)
        choose("upload", self.upload, UPLOADS)
        choose("codec", self.codec, CODECS)
        choose("codec", self.download_codec, CODECS)
        choose("engine", self.engine, ENGINES)
        choose("precision", self.precision, PRECISIONS)
        choose("augmentation", self.augment, AUGMENTATIONS)
        parse_spread(self.speed_spread)
        for rate in (self.uplink, self.downlink):
            parse_rate(rate)
        if self.drop_out + self.garbage > 1:
            raise UsageError("--drop-out and --garbage are shares of all clients: together at most 1")
        for name, low, high in (
            ("clients", 1, 100_000),
            ("width", 1e-3, 16.0),
            ("rounds", 1, 1_000_000),
            ("local_epochs", 1, 10_000),
            ("batch_size", 1, 1_000_000),
            ("lr", 1e-12, 1e3),
            ("lr_decay", 1e-3, 1.0),
            ("momentum", 0.0, 0.9999),
            ("weight_decay", 0.0, 1.0),
            ("clip_norm", 0.0, 1e9),
            ("proximal_mu", 0.0, 1e6),
            ("server_lr", 1e-12, 1e3),
            ("server_momentum", 0.0, 0.9999),
            ("clip_update", 0.0, 1e9),
            ("density_schedule", 0.0, 1.0),
            ("upload_share", 0.01, 1.0),
            ("fraction_train", 0.0, 1.0),
            ("min_clients", 1, self.clients),
            ("deadline", 1e-9, 1e9),
            ("wait_for", 1, self.clients),
            ("max_staleness", 0, 1000),
            ("client_speed", 1e-9, 1e9),
            ("drop_out", 0.0, 1.0),
            ("garbage", 0.0, 1.0),
            ("seed", 0, 2**32 - 1),
        ):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                option = name.replace("_", "-")
                raise UsageError(f"--{option} {value} is out of range: {low} to {high}")
        if self.upload == "full" and self.upload_share != TrainConfig.upload_share:
            raise UsageError("--upload-share is of --upload salient, and this is a run with --upload full")
        if self.lr_decay != TrainConfig.lr_decay and self.lr_schedule != "exponential":
            raise UsageError(f"--lr-decay is of --lr-schedule exponential, and the schedule is {self.lr_schedule}")

        if self.proximal_mu != TrainConfig.proximal_mu and self.algorithm != "fedprox":
            raise UsageError(f"--proximal-mu is of --algorithm fedprox, and the algorithm is {self.algorithm}")
        if self.server_momentum != TrainConfig.server_momentum and self.server_optimizer == "none":
            raise UsageError("--server-momentum is of --server-optimizer momentum or adam, and there is none")
        if self.algorithm == "scaffold" and self.inbox is not None:
            raise UsageError(
                "--algorithm scaffold cannot use an --inbox: updates from outside have no control variates"
            )
        if self.engine == "flower" and self.reestimate_norms:
            raise UsageError("--reestimate-norms needs the clients' data here, and with --engine flower they keep them")
        if self.robust != "none" and self.reestimate_norms:
            raise UsageError(
                f"--robust {self.robust} cannot protect --reestimate-norms, which pools what every client says: "
                "leave one of them"
            )
        if self.robust != "none" and self.algorithm in ("fednova", "scaffold"):
            trusted = "how many steps a client says it made" if self.algorithm == "fednova" else "control variates"
            raise UsageError(
                f"--robust {self.robust} cannot protect --algorithm {self.algorithm}, whose server adds up {trusted}: "
                "use fedavg or fedprox"
            )

    def to_json(self):
        """Canonical JSON text: equal configurations give equal bytes."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, indent=1)

    @classmethod
    def from_json(cls, text):
        """The inverse of `to_json`; anything else is a `UsageError`.

        An option that is missing, as it was added to fedgate after the text was written, has its default: how it was
        before. One that is unknown, of a later fedgate, is refused.
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
