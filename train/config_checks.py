"""What a `TrainConfig` may hold: known names, numbers in range, and options that go together."""

from fedgate.device_runtime.codec import CODECS
from fedgate.device_runtime.errors import UsageError, choose
from fedgate.device_runtime.pictures.fit import parse_colour
from fedgate.device_runtime.text import check_utf8

from .clocks import parse_rate, parse_spread
from .gates import GATED, check_gate
from .strategies import ALGORITHMS, ROBUST, SERVER_OPTIMIZERS
from .tails import TRAINABLE

# field -> what an error calls it, and its known values
NAMES = {
    "gated": ("set of gated convolutions", GATED),
    "trainable": ("trainable part", TRAINABLE),
    "lr_schedule": ("learning-rate schedule", ("cosine", "constant", "exponential")),
    "algorithm": ("algorithm", ALGORITHMS),
    "server_optimizer": ("server optimizer", SERVER_OPTIMIZERS),
    "robust": ("robust aggregation", ROBUST),
    "upload": ("upload", ("salient", "full")),
    "codec": ("codec", CODECS),
    "download_codec": ("codec", CODECS),
    "engine": ("engine", ("auto", "loop", "cohort", "flower")),
    "precision": ("precision", ("auto", "fp32", "bf16")),
    "augment": ("augmentation", ("auto", "none", "crop", "crop-flip")),
}
# field -> its lowest and its highest value
RANGES = {
    "clients": (1, 100_000),
    "width": (1e-3, 16.0),
    "hidden_width": (1e-3, 4.0),
    "rounds": (1, 1_000_000),
    "local_epochs": (1, 10_000),
    "batch_size": (1, 1_000_000),
    "lr": (1e-12, 1e3),
    "lr_decay": (1e-3, 1.0),
    "momentum": (0.0, 0.9999),
    "weight_decay": (0.0, 1.0),
    "clip_norm": (0.0, 1e9),
    "proximal_mu": (0.0, 1e6),
    "server_lr": (1e-12, 1e3),
    "server_momentum": (0.0, 0.9999),
    "clip_update": (0.0, 1e9),
    "clip_to_median": (0.0, 1e9),
    "density_schedule": (0.0, 1.0),
    "upload_share": (0.01, 1.0),
    "fraction_train": (0.0, 1.0),
    "deadline": (1e-9, 1e9),
    "max_staleness": (0, 1000),
    "client_speed": (1e-9, 1e9),
    "drop_out": (0.0, 1.0),
    "garbage": (0.0, 1.0),
    "seed": (0, 2**32 - 1),
}


def check(config):
    """Refuse a configuration with a `UsageError` that names the option."""
    for name, value in vars(config).items():
        check_utf8(f"--{name.replace('_', '-')}", value)
    for name, (what, known) in NAMES.items():
        choose(what, getattr(config, name), known)
    check_gate(config.gate, config.density)
    parse_colour(config.background)
    parse_spread(config.speed_spread)
    for rate in (config.uplink, config.downlink):
        parse_rate(rate)
    some = {"min_clients": (1, config.clients), "wait_for": (1, config.clients)}
    for name, (low, high) in (RANGES | some).items():
        value = getattr(config, name)
        if value is not None and not low <= value <= high:
            raise UsageError(f"--{name.replace('_', '-')} {value} is out of range: {low} to {high}")
    check_idle(config)
    check_pairs(config)


def check_idle(config):
    """Refuse options that would do nothing beside the others."""

    def given(name):
        return getattr(config, name) != getattr(type(config), name)

    if given("gated") and config.gate == "none":
        raise UsageError("--gated is of networks with gates, and the gate is none")
    if given("upload_share") and config.upload == "full":
        raise UsageError("--upload-share is of --upload salient, and this is a run with --upload full")
    if given("lr_decay") and config.lr_schedule != "exponential":
        raise UsageError(f"--lr-decay is of --lr-schedule exponential, and the schedule is {config.lr_schedule}")
    if given("proximal_mu") and config.algorithm != "fedprox":
        raise UsageError(f"--proximal-mu is of --algorithm fedprox, and the algorithm is {config.algorithm}")
    if given("server_momentum") and config.server_optimizer == "none":
        raise UsageError("--server-momentum is of --server-optimizer momentum or adam, and there is none")


def check_pairs(config):
    """Refuse options that do not go together."""
    if config.drop_out + config.garbage > 1:
        raise UsageError("--drop-out and --garbage are shares of all clients: together at most 1")
    if config.trainable != "all" and config.base is None:
        raise UsageError(f"--trainable {config.trainable} needs the run that its trunk comes from: --base RUN")
    if config.trainable != "all" and config.reestimate_norms:
        raise UsageError(f"--trainable {config.trainable} keeps norm statistics that --reestimate-norms replaces")
    if config.algorithm == "scaffold" and config.inbox is not None:
        raise UsageError("--algorithm scaffold cannot use an --inbox: updates from outside have no control variates")
    if config.inbox_unsigned and config.inbox is None:
        raise UsageError("--inbox-unsigned goes with --inbox DIR")
    if config.engine == "flower" and config.reestimate_norms:
        raise UsageError("--reestimate-norms needs the clients' data here, and with --engine flower they keep them")
    if config.robust != "none" and config.reestimate_norms:
        raise UsageError(
            f"--robust {config.robust} cannot protect --reestimate-norms, which pools what every client says: "
            "leave one of them"
        )
    if config.robust != "none" and config.clients < 3 and config.inbox is None:
        raise UsageError(f"--robust {config.robust} leaves out what lies apart, which takes 3 --clients or more")
    if config.robust != "none" and config.algorithm in ("fednova", "scaffold"):
        trusted = "how many steps a client says it made" if config.algorithm == "fednova" else "control variates"
        raise UsageError(
            f"--robust {config.robust} cannot protect --algorithm {config.algorithm}, whose server adds up {trusted}: "
            "use fedavg or fedprox"
        )
