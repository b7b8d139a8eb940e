"""What a round starts from. Nothing of it changes while the round goes on."""

from dataclasses import dataclass, replace

import numpy as np

from fedgate.device_runtime.formats.tensors import tensors_hash

from ..network.build import GatedNetwork
from ..network.salience import SalienceRecord
from ..strategies import ServerState, Strategy
from .arrivals import Upload, rebased
from .checkpoint import ClientState
from .clocks import Clocks
from .downloads import Broadcast
from .engine import Task
from .plans import round_plan
from .run_directory import RunInfo


@dataclass(frozen=True, eq=False)
class RoundInput:
    """What all rounds of a run know, what the rounds before left, and what this one begins with.

    network: for what it is made of; nobody trains it. levels: by client the one that it trains, None for all. examples:
    by client how many it holds.
    state: after the rounds before. clients: what those keep whose updates were used. salience: of all clients together,
    None before the first round. waiting: late uploads. bases: by round, weights of older states to which updates may
    refer. clock: simulated seconds since the run began. losses: of the last state that was taken. letters: by SHA-256
    of a file of the inbox, the round that used it. taught: the clients that have the teacher already.
    densities: by level. broadcast: what the server sends.
    """

    info: RunInfo
    network: GatedNetwork
    strategy: Strategy
    clocks: Clocks
    levels: list[int | None]
    examples: list[int]
    state: ServerState
    clients: dict[int, ClientState]
    salience: SalienceRecord | None
    waiting: tuple[Upload, ...]
    bases: dict[int, dict[str, np.ndarray]]
    clock: float
    losses: dict[str, float | None]
    letters: dict[str, int]
    taught: frozenset[int]
    densities: tuple[float, ...]
    broadcast: Broadcast

    @property
    def config(self):
        return self.info.config

    @property
    def done(self):
        """How many rounds were done before this one."""
        return self.state.round

    def task(self, client):
        """What a client is asked to do."""
        plan = round_plan(self.info, self.done, self.densities, self.levels[client], client)
        return Task(client, plan, self.broadcast, self.clients.get(client, {}))

    def teacher_bytes(self, client):
        """What a client is sent of the teacher: all of it in its first round, then nothing."""
        return 0 if client in self.taught else self.info.resolved.get("teacher", {}).get("bytes", 0)

    def base(self, round_):
        """What an update to the present state or to an older one must look like, and that state: (spec, tensors)."""
        if round_ == self.done:
            return self.broadcast.spec, self.broadcast.public
        tensors = self.bases[round_]
        return replace(self.broadcast.spec, base_round=round_, base_hash=tensors_hash(tensors)), tensors

    def staleness(self, round_):
        """Why an update to the state after `round_` rounds cannot be used; None where it can."""
        age, most = self.done - round_, self.config.max_staleness
        if age < 0:
            return f"its base is of round {round_}, which is not done yet"
        return f"its base is {age} rounds old, and --max-staleness is {most}" if age > most else None

    def to_present(self, update):
        """A good update to this or an older state as one to the present state."""
        if update.base_round == self.done:
            return update
        spec, base = self.base(update.base_round)
        base, present = (
            spec.take({name: state[name] for name in update.values}, update.channels)
            for state in (base, self.broadcast.public)
        )
        return rebased(update, base, present)
