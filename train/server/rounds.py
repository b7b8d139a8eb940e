"""A training run: the round loop over a run directory."""

import functools
import time

from ..data.class_table import class_table
from ..network.build import network_tensors
from ..network.channels import record_of
from ..network.salience import SalienceRecord
from ..strategies import initial_state, strategy_of
from .arrivals import Upload, bases_needed
from .checkpoint import Checkpoint
from .claims import believe
from .clocks import make_clocks
from .downloads import broadcast_of, restored, stored
from .gather import gather
from .inbox import Inbox
from .letters import put_away, read_letters
from .plans import expected_updates
from .round_input import RoundInput
from .rows import client_rows, round_row
from .run_directory import MetricsLog, RunDirectory
from .schedule import densities_at
from .selection import capacity_levels
from .senders import Senders
from .verdict import decide


class Run:
    """A run directory with the state of its newest checkpoint, and the round loop over it.

    What changes from round to round is what a checkpoint holds; `round` alone changes it, once all is decided.
    """

    def __init__(self, directory: RunDirectory, data, parts, network, base, engine):
        """network: with its initial weights; base: () -> the tensors to start from instead, or None for the network's.

        engine: called with the tensors of the frozen layers, or with None where no layer is: what trains the clients
        (see `engine`).
        """
        self.directory, self.data, self.parts = directory, data, parts
        self.info, self.config = directory.info, directory.info.config
        self.network = network
        self.table = class_table(data.train_labels.numpy(), parts, len(data.labels))
        self.clocks, self.client_levels = make_clocks(self.config), capacity_levels(self.config)
        self.inbox = Inbox(self.config.inbox, self.info.run) if self.config.inbox else None
        self.senders = None
        self.strategy = strategy_of(self.config, self.network)
        self.log = MetricsLog(directory.path / "metrics.jsonl")  # from here on no other process has this run
        try:
            self.load(base)
            self.engine = engine(self.state.tensors if network.frozen else None)
        except BaseException:
            self.log.close()
            raise

    def load(self, base):
        """Take up the newest checkpoint, or the initial state where there is none."""
        checkpoint = self.directory.load()
        if checkpoint is None:
            initial = initial_state(base() or network_tensors(self.network), self.strategy)
            checkpoint = Checkpoint(initial, progress={"metrics_bytes": 0, "simulated_seconds": 0.0})
        self.state = restored(checkpoint.state, expected_updates(self.info, self.network))
        self.salience, self.clients = checkpoint.salience, checkpoint.clients
        self.waiting, self.bases = checkpoint.waiting, checkpoint.bases
        self.clock = checkpoint.progress["simulated_seconds"]
        self.losses = checkpoint.progress.get("losses", {})
        self.taught = frozenset(checkpoint.progress.get("taught", ()))
        self.letters = checkpoint.progress.get("letters", {})  # SHA-256 of the files that rounds used: the round
        self.log.cut(checkpoint.progress["metrics_bytes"])
        if self.inbox:
            self.senders = Senders(self.directory.path, self.info.run, self.config.clients, self.config.inbox_unsigned)
            self.inbox.restore(self.state.round)

    def start(self) -> RoundInput:
        """What the round that follows the present state starts from."""
        config, state = self.config, self.state
        return RoundInput(
            info=self.info,
            network=self.network,
            strategy=self.strategy,
            clocks=self.clocks,
            levels=self.client_levels,
            examples=[len(part) for part in self.parts],
            state=state,
            clients=self.clients,
            salience=self.salience.get("global"),
            waiting=tuple(self.waiting),
            bases=self.bases,
            clock=self.clock,
            losses=self.losses,
            letters=self.letters,
            taught=self.taught,
            densities=densities_at(config.density, state.round, config.rounds, config.density_schedule),
            broadcast=broadcast_of(state, expected_updates(self.info, self.network), config),
        )

    def rounds(self, until=None):
        """Run what is left of the rounds, or of the first `until`; yields each round's row of metrics.jsonl."""
        last = self.config.rounds if until is None else min(until, self.config.rounds)
        while self.state.round < last:
            yield self.round()
        if self.state.round == self.config.rounds and not self.directory.model_path.exists():
            self.directory.write_model(self.state)

    def round(self):
        """One round: download, local training, upload, aggregation, evaluation, checkpoint."""
        started, start = time.perf_counter(), self.start()
        turnout = gather(start, self.engine, read_letters(start, self.inbox, self.senders))
        verdict = decide(start, believe(start, turnout), self.engine)
        self.take(start, verdict)
        refused_files, self.letters = put_away(start, self.inbox, verdict.turnout)
        rows = client_rows(start, verdict.turnout.outcomes)
        row = round_row(start, verdict, rows, refused_files, time.perf_counter() - started)
        for line in (*rows, row):
            self.log.write(line)
        self.save()
        return row

    def take(self, start, verdict):
        """Go on from what a round ended with; of the clients whose updates are in it, also what they keep."""
        used, config, from_outside = verdict.turnout.used, self.config, self.inbox is not None
        self.state, self.losses, self.clock = verdict.state, verdict.losses, verdict.turnout.ended
        self.salience = records_with(self.salience, used)
        self.clients = self.clients | {
            each.client: each.source.state for each in used if isinstance(each.source, Upload)
        }
        self.waiting = list(verdict.turnout.waiting)
        if config.teacher is not None:
            self.taught |= {each.client for each in verdict.turnout.outcomes if each.bytes_down}
        bases = self.bases | {start.done: start.broadcast.public}
        needed = bases_needed(self.state.round, self.waiting, config.max_staleness, from_outside)
        self.bases = {base: bases[base] for base in needed}

    def save(self):
        """Write the checkpoint of the present state."""
        progress = {"metrics_bytes": self.log.sync(), "simulated_seconds": self.clock, "losses": self.losses}
        progress["letters"] = self.letters
        if self.config.teacher is not None:
            progress["taught"] = sorted(self.taught)
        state = stored(self.state, self.config.download_codec)
        self.directory.save(Checkpoint(state, self.salience, self.clients, progress, self.waiting, self.bases))

    def __enter__(self):
        return self

    def __exit__(self, error, *_):
        """Stop the workers, at once when a round was interrupted or failed."""
        self.engine.close(at_once=error is not None)
        self.log.close()


def records_with(salience, used):
    """Salience records by scope, with those of the clients whose updates were used, and the sum of all as "global"."""
    if not used:
        return salience
    salience = salience | {f"client-{outcome.client}": record_of(outcome.update) for outcome in used}
    records = [salience[scope] for scope in sorted(salience) if scope != "global"]
    return salience | {"global": functools.reduce(SalienceRecord.__add__, records)}
