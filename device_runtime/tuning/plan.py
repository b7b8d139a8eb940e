"""What a local training is asked to do."""

from dataclasses import dataclass

from ..errors import UsageError, choose
from ..formats.checks import Fields
from ..formats.codec import CODECS
from ..formats.manifest import Manifest

ALGORITHMS = ("fedavg", "fednova")  # those whose clients take plain steps


@dataclass(frozen=True)
class TunePlan:
    """Local SGD on a tail: the field names and meanings of `train`'s local plans.

    batch_size: examples of a step, at most as many as the train program takes. lr: of the first epoch; each later one
    has `lr_decay` times that of the one before. level: index of the density that is trained. seed: of the order of the
    examples and of the codec's rounding. upload_share, codec: of the update (see `uploads`).
    """

    level: int
    epochs: int = 10
    batch_size: int = 16
    lr: float = 0.01
    lr_decay: float = 1.0
    momentum: float = 0.9
    weight_decay: float = 5e-4
    clip_norm: float = 1.0
    seed: int = 0
    upload_share: float | None = 1.0
    codec: str = "fp32"

    def __post_init__(self):
        choose("codec", self.codec, CODECS)
        for name, low, high in (
            ("epochs", 1, 10_000),
            ("batch_size", 1, 65_536),
            ("lr", 1e-12, 1e3),
            ("lr_decay", 1e-3, 1.0),
            ("momentum", 0.0, 0.9999),
            ("weight_decay", 0.0, 1.0),
            ("clip_norm", 0.0, 1e9),
            ("seed", 0, 2**64 - 1),
            ("upload_share", 0.01, 1.0),
        ):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise UsageError(f"--{name.replace('_', '-')} {value} is out of range: {low} to {high}")


def plan_from_json(value, manifest: Manifest, level: int) -> TunePlan:
    """The plan of a round from a server's JSON object, which has the fields of `train`'s `LocalPlan`.

    level: the one that this client trains. Raises `FedgateError` for what a tail's programs cannot do.
    """
    fields = Fields(value, "the plan")
    if fields.get("algorithm") not in ALGORITHMS:
        fields.refuse("algorithm", f"one whose clients take plain steps: {', '.join(ALGORITHMS)}")
    if fields.get("adaptive_gradient") is not True:
        fields.refuse("adaptive_gradient", "true: it is part of the train programs")
    if fields.numbers("densities", (1, 64), 0.0, 1.0) != manifest.densities:
        fields.refuse("densities", "those of the bundle")
    if fields.get("level") is not None and fields.whole("level", 0, len(manifest.densities)) != level:
        fields.refuse("level", f"{level}, which this client trains")
    return TunePlan(
        level=level,
        epochs=fields.whole("epochs", 1, 10_000),
        batch_size=fields.whole("batch_size", 1, 65_536),
        lr=fields.number("lr", 1e-12, 1e3),
        lr_decay=fields.number("lr_decay", 1e-3, 1.0),
        momentum=fields.number("momentum", 0.0, 0.9999),
        weight_decay=fields.number("weight_decay", 0.0, 1.0),
        clip_norm=fields.number("clip_norm", 0.0, 1e9),
        seed=fields.whole("seed", 0, 2**64 - 1),
        upload_share=None if fields.get("upload_share") is None else fields.number("upload_share", 0.01, 1.0),
        codec=fields.choice("codec", CODECS),
    )
