"""One round on the server, whatever the algorithm: pure, in the order of the clients' numbers."""

import functools
from dataclasses import dataclass

import numpy as np

from fedgate.device_runtime.errors import FedgateError

from . import fedopt, scaffold
from .bounds import bounded_updates
from .consistency import inconsistent
from .fedavg import fedavg
from .fednova import effective_steps, fednova
from .masked import masked_mean
from .norms import is_statistic, pooled
from .robust import robust
from .state import ServerState


@dataclass(frozen=True)
class Strategy:
    """How a run aggregates.

    parameters: names of the tensors that gradients train; all others are statistics, which are averaged. clients: how
    many the run has. momentum, epochs, lr_decay: of local training. clip: longest change of a client, 0 for any. bound:
    the same, as a multiple of what is usual in the round.
    """

    parameters: frozenset[str]
    clients: int
    algorithm: str = "fedavg"
    server_optimizer: str = "none"
    server_lr: float = 1.0
    server_momentum: float = 0.9
    robust: str = "none"
    clip: float = 0.0
    bound: float = 0.0
    momentum: float = 0.0
    epochs: int = 1
    lr_decay: float = 1.0


def strategy_of(config, network) -> Strategy:
    """The strategy of a run; config: its `TrainConfig`."""
    lr = fedopt.LEARNING_RATES[config.server_optimizer] if config.server_lr is None else config.server_lr
    return Strategy(
        parameters=frozenset(name for name, p in network.body.named_parameters() if p.requires_grad),
        clients=config.clients,
        algorithm=config.algorithm,
        server_optimizer=config.server_optimizer,
        server_lr=lr,
        server_momentum=config.server_momentum,
        robust=config.robust,
        clip=config.clip_update,
        bound=config.clip_to_median,
        momentum=config.momentum,
        epochs=config.local_epochs,
        lr_decay=config.lr_decay if config.lr_schedule == "exponential" else 1.0,
    )


@dataclass(frozen=True)
class NotTaken:
    """What of a round's updates is not in its state. shares: by client what is left of a change that was cut.

    refused: by client why nothing of its update is used.
    """

    shares: dict[int, float]
    refused: dict[int, str]


def round_step(state: ServerState, updates, strategy: Strategy, spec, base) -> tuple[ServerState, NotTaken]:
    """The clients' updates, in any order, make the next state, within the strategy's bounds.

    spec: what the updates look like (`UpdateSpec`). base: the weights, by name, from which the clients started. Raises
    `FedgateError` where there is no update.
    """
    updates, shares, refused, remembered = bounded(state, updates, strategy, spec, base)
    return combined(state, updates, strategy, spec, base, remembered), NotTaken(shares, refused)


def bounded(state, updates, strategy, spec, base):
    """The updates that are used, within the strategy's bounds; the first of a client counts.

    Returns (updates, by client the share that is left of a change that was cut, by client the reason why its update is
    not used, what is remembered of the round).
    """
    if not updates:
        raise FedgateError(f"round {state.round + 1} got no update from any client")
    first = {update.client: update for update in reversed(updates)}
    updates = [first[client] for client in sorted(first)]
    if not (strategy.bound or strategy.clip):
        return updates, {}, {}, {}
    bounds = functools.partial(
        bounded_updates,
        base=base,
        spec=spec,
        strategy=strategy,
        memory=state.memory,
        round_=state.round,
        **weighing(strategy),
    )
    made, shares, usual = bounds(updates)
    refused = absurd(shares)
    if strategy.bound and strategy.algorithm != "scaffold":  # whose corrections turn with what others send
        likely = [update for update in updates if update.client not in refused]
        found, seen = inconsistent(likely, base, spec, state.memory, state.round)
        if found:
            made, shares, usual = bounds([update for update in likely if update.client not in found])
        refused, usual = refused | found | absurd(shares), usual | seen
    return made, {client: share for client, share in shares.items() if share > 0}, refused, usual


def absurd(shares):
    """By client the reason why nothing of its change is left."""
    return {client: "its change is many times as long as the others'" for client, share in shares.items() if share == 0}


def combined(state, updates, strategy, spec, base, remembered=None):
    """What updates within bounds make of a state; spec: what updates look like (`UpdateSpec`).

    base: the weights from which the clients started, which differ from the server's own where a codec lost something:
    what it lost stays in the server's. What no client sent stays as it is. remembered: of the bounds.
    """
    aggregate = aggregation(strategy, updates, spec, base)
    tensors, memory = {}, dict(remembered or {})
    for name, value in state.tensors.items():
        if name not in spec.parameters:  # frozen
            tensors[name] = value
            continue
        made, found = aggregate(name)
        trained = name in strategy.parameters
        if trained and (strategy.server_optimizer, strategy.server_lr) != ("none", 1.0):
            step, kept = fedopt.server_step(
                strategy.server_optimizer,
                name,
                made - base[name],
                found,
                state.memory,
                strategy.server_lr,
                strategy.server_momentum,
            )
            made, memory = value + step, memory | kept
        elif trained and (value != base[name]).any():
            made = value + (made - base[name])
        with np.errstate(over="ignore"):  # the run looks at what came out
            tensors[name] = np.where(found, made.astype(np.float32), value)
    if strategy.algorithm == "scaffold":
        memory |= scaffold.server_control(state.memory, sorted(strategy.parameters), updates, spec, strategy.clients)
    return ServerState(state.round + 1, tensors, memory=memory)


def weighing(strategy):
    """weight_of: update -> its weight in the mean; scale_of: update -> what its change is multiplied with before."""
    if strategy.robust != "none" or strategy.algorithm == "scaffold":
        return {"weight_of": lambda update: 1, "scale_of": lambda update: 1.0}
    if strategy.algorithm == "fednova":
        return {"weight_of": lambda update: update.examples, "scale_of": lambda update: 1 / effective(strategy, update)}
    return {"weight_of": lambda update: update.examples, "scale_of": lambda update: 1.0}


def effective(strategy, update):
    """FedNova's |a_k| of a client."""
    return effective_steps(update.local_steps, strategy.momentum, strategy.epochs, strategy.lr_decay)


def initial_state(tensors, strategy: Strategy) -> ServerState:
    """The state before the first round."""
    memory = {}
    if strategy.algorithm == "scaffold":
        memory = {scaffold.CONTROL + name: np.zeros_like(tensors[name]) for name in sorted(strategy.parameters)}
    return ServerState(0, tensors, memory=memory)


def aggregation(strategy, updates, spec, base):
    """A function from a tensor's name to what the clients make of it: (float64, bool: the entries that any sent)."""
    if strategy.algorithm == "fednova":
        steps = functools.partial(effective, strategy)
        learn = functools.partial(fednova, updates=updates, spec=spec, base=base, effective=steps)
    elif strategy.algorithm == "scaffold":
        learn = functools.partial(equal_mean, updates=updates, spec=spec)
    else:
        learn = functools.partial(fedavg, updates=updates, spec=spec)

    def aggregate(name):
        if strategy.robust != "none":
            return robust(strategy.robust, name, updates, spec)
        if name in strategy.parameters:
            return learn(name)
        level = spec.level_of.get(name)
        if level is not None and is_statistic(name):
            return pooled(name, updates, spec, level)
        return fedavg(name, updates, spec)

    return aggregate


def equal_mean(name, updates, spec):
    """Every client weighs the same, as in SCAFFOLD."""
    return masked_mean(name, updates, spec, lambda update: update.values[name], lambda update: 1)
