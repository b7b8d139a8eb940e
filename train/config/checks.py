"""What a `TrainConfig` may hold: known names, numbers in range, and options that go together."""

from fedgate.device_runtime.errors import UsageError, choose
from fedgate.device_runtime.pictures.fit import parse_colour
from fedgate.device_runtime.text import check_utf8

from ..network.gates import check_gate
from .declare import declared, flag
from .values import parse_normalise, parse_rate, parse_spread


def check(config):
    """Refuse a configuration with a `UsageError` that names the option."""
    options = declared(config)
    for name in options:
        check_utf8(flag(name), getattr(config, name))
    for name, (_, about) in options.items():
        if about.choices:
            choose(about.noun, getattr(config, name), about.choices)
    check_gate(config.gate, config.density)
    parse_colour(config.background)
    parse_spread(config.speed_spread)
    parse_normalise(config.normalise)
    for rate in (config.uplink, config.downlink):
        parse_rate(rate)
    ranges = {name: (about.low, about.high) for name, (_, about) in options.items() if about.low is not None}
    for name, (low, high) in (ranges | dict.fromkeys(("min_clients", "wait_for"), (1, config.clients))).items():
        value = getattr(config, name)
        if value is not None and not low <= value <= high:
            raise UsageError(f"{flag(name)} {value} is out of range: {low} to {high}")
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
    for name in ("distill", "temperature"):
        if given(name) and config.teacher is None:
            raise UsageError(f"{flag(name)} goes with --teacher RUN")
    if given("server_momentum") and config.server_optimizer == "none":
        raise UsageError("--server-momentum is of --server-optimizer momentum or adam, and there is none")


def check_pairs(config):
    """Refuse options that do not go together."""
    if config.drop_out + config.garbage > 1:
        raise UsageError("--drop-out and --garbage are shares of all clients: together at most 1")
    if config.init is not None and config.base is not None:
        raise UsageError("--base and --init are both what a run starts from: give one of them")
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
    if config.engine == "flower" and config.teacher is not None:
        raise UsageError("--teacher is for clients that are simulated here: --engine flower has no way to send it")
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
