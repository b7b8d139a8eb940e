"""What a run asks of its clients: how they train, and what their updates look like."""

from ..local.client import LocalPlan, client_seed
from ..network.channels import update_spec
from ..strategies import strategy_of
from .run_directory import RunInfo
from .schedule import learning_rate_at


def local_plan(info: RunInfo, **own):
    """A `LocalPlan` with what is the same in all local training of a run; own: the other fields."""
    same = ("batch_size", "momentum", "weight_decay", "clip_norm", "adaptive_gradient")
    return LocalPlan(
        **{name: getattr(info.config, name) for name in same},
        augment=info.resolved["augment"],
        precision=info.resolved["precision"],
        **own,
    )


def round_plan(info: RunInfo, done, densities, level, client):
    """The plan of a client in the round after `done` rounds. densities: of the round. level: its own, None for all."""
    config = info.config
    epochs = config.fraction_train * config.local_epochs  # a round, on average over the clients
    return local_plan(
        info,
        densities=densities,
        level=level,
        epochs=config.local_epochs,
        lr=learning_rate_at(config.lr, done, config.rounds, config.lr_schedule, config.lr_decay, epochs),
        lr_decay=config.lr_decay if config.lr_schedule == "exponential" else 1.0,
        seed=client_seed(config.seed, done, client),
        algorithm=config.algorithm,
        proximal_mu=config.proximal_mu,
        upload_share=config.upload_share if config.upload == "salient" else None,
        codec=config.codec,
        distill=0.0 if config.teacher is None else config.distill,
        temperature=config.temperature,
    )


def expected_updates(info: RunInfo, network):
    """What an update of a run must look like, but for its base."""
    control = strategy_of(info.config, network).parameters if info.config.algorithm == "scaffold" else ()
    return update_spec(network, info.run, sorted(control))
