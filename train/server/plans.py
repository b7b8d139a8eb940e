"""What a run asks of its clients: how they train, and what their updates look like."""

from ..local.client import LocalPlan
from ..network.channels import update_spec
from ..strategies import strategy_of
from .run_directory import RunInfo


def local_plan(info: RunInfo, **own):
    """A `LocalPlan` with what is the same in all local training of a run; own: the other fields."""
    same = ("batch_size", "momentum", "weight_decay", "clip_norm", "adaptive_gradient")
    return LocalPlan(
        **{name: getattr(info.config, name) for name in same},
        augment=info.resolved["augment"],
        precision=info.resolved["precision"],
        **own,
    )


def expected_updates(info: RunInfo, network):
    """What an update of a run must look like, but for its base."""
    control = strategy_of(info.config, network).parameters if info.config.algorithm == "scaffold" else ()
    return update_spec(network, info.run, sorted(control))
