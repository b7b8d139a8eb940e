"""A training run: the round loop over a run directory."""

import functools
import time
from dataclasses import replace

from ..data.class_table import class_table
from ..local.client import client_seed
from ..network.build import network_tensors
from ..network.channels import record_of
from ..network.salience import SalienceRecord
from ..strategies import combined, held, initial_state, strategy_of
from ..strategies.masked import ENOUGH
from .arrivals import Upload, bases_needed
from .checkpoint import Checkpoint
from .clocks import make_clocks
from .downloads import Broadcast, note_changes, restored, stored
from .gather import gather
from .inbox import Inbox
from .norms import pooled_norms
from .plans import expected_updates, local_plan
from .rows import round_row
from .run_directory import MetricsLog, RunDirectory
from .schedule import densities_at, learning_rate_at
from .selection import capacity_levels
from .senders import Senders
from .verdict import finite, losses_of, why_not

SERVER_STREAM = 2**32 - 1  # beside the numbers of clients in seeds


class Run:
    """A run directory with the state of its newest checkpoint, and the round loop over it."""

    def __init__(self, directory: RunDirectory, data, parts, network, base, engine):
        """network: with its initial weights; base: () -> the tensors to start from instead, or None for the network's.

        engine: called with the tensors of the frozen layers, or with None where no layer is: what trains the clients.
        """
        self.directory, self.data, self.parts = directory, data, parts
        self.info, self.config = directory.info, directory.info.config
        self.network, self.layers = network, network.layers
        self.table = class_table(data.train_labels.numpy(), parts, len(data.labels))
        self.clocks, self.client_levels = make_clocks(self.config), capacity_levels(self.config)
        self.inbox = Inbox(self.config.inbox, self.info.run) if self.config.inbox else None
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
        self.letters = checkpoint.progress.get("letters", {})  # SHA-256 of the files that rounds used: the round
        self.log.cut(checkpoint.progress["metrics_bytes"])
        if self.inbox:
            self.senders = Senders(self.directory.path, self.info.run, self.config.clients, self.config.inbox_unsigned)
            self.inbox.restore(self.state.round)

    @property
    def densities(self):
        """Of the round that follows the present state, by level."""
        config = self.config
        return densities_at(config.density, self.state.round, config.rounds, config.density_schedule)

    def plan(self, client):
        """What a client is asked to do in the round that follows the present state."""
        config, done = self.config, self.state.round
        return local_plan(
            self.info,
            densities=self.densities,
            level=self.client_levels[client],
            epochs=config.local_epochs,
            lr=learning_rate_at(
                config.lr,
                done,
                config.rounds,
                config.lr_schedule,
                config.lr_decay,
                config.fraction_train * config.local_epochs,
            ),
            lr_decay=config.lr_decay if config.lr_schedule == "exponential" else 1.0,
            seed=client_seed(config.seed, done, client),
            algorithm=config.algorithm,
            proximal_mu=config.proximal_mu,
            upload_share=config.upload_share if config.upload == "salient" else None,
            codec=config.codec,
        )

    def broadcast(self):
        """What the server sends at the start of the round that follows the present state."""
        spec = expected_updates(self.info, self.network)
        seed = (self.config.seed, self.state.round, SERVER_STREAM)
        return Broadcast(self.state, spec, self.config.download_codec, seed)

    def rounds(self, until=None):
        """Run what is left of the rounds, or of the first `until`; yields each round's row of metrics.jsonl."""
        last = self.config.rounds if until is None else min(until, self.config.rounds)
        while self.state.round < last:
            yield self.round()
        if self.state.round == self.config.rounds and not self.directory.model_path.exists():
            self.directory.write_model(self.state)

    def round(self):
        """One round: download, local training, upload, aggregation, evaluation, checkpoint."""
        started, config, densities = time.perf_counter(), self.config, self.densities
        broadcast = self.broadcast()
        turnout = gather(self, broadcast)
        reason = self.too_few(turnout)
        if reason is not None:
            turnout.keep_for_later()
        before, clients, salience = self.state, self.clients, self.salience
        began, public = self.clock, broadcast.public
        bases = self.bases | {before.round: public}
        self.state = note_changes(before, self.step(turnout, broadcast), broadcast.spec, public)
        evaluation, ended = None, turnout.ended
        if finite(self.state) or not turnout.joined:
            if config.reestimate_norms and self.state.round == config.rounds:
                norms, seconds = pooled_norms(self, turnout)
                self.state, ended = replace(self.state, tensors=self.state.tensors | norms), ended + seconds
            evaluation = self.engine.evaluate(self.state.tensors, densities)
        wrong = self.judge(evaluation, turnout)
        if wrong is not None:
            senders = sorted(update.client for update, _ in turnout.joined)
            reason = f"{wrong}: the state is kept; clients {', '.join(map(str, senders))} had sent updates"
            turnout.refuse(f"the round is not taken: {wrong}", set(senders))
            self.state = note_changes(before, replace(before, round=before.round + 1), broadcast.spec, public)
            self.clients, self.salience = clients, salience
            evaluation = self.engine.evaluate(self.state.tensors, densities)
        self.waiting, self.clock = turnout.waiting, ended
        needed = bases_needed(self.state.round, self.waiting, config.max_staleness, self.inbox is not None)
        self.bases = {base: bases[base] for base in needed}
        files = self.put_away(turnout)
        row = round_row(evaluation, turnout.rows, self.state.round, densities, config.local_epochs) | {
            "simulated_seconds": ended - began,
            "simulated_hours": self.clock / 3600,
            "reason": reason,
            "refused_files": files,
            "seconds": round(time.perf_counter() - started, 3),
        }
        for line in (*turnout.rows, row):
            self.log.write(line)
        progress = {"metrics_bytes": self.log.sync(), "simulated_seconds": self.clock, "losses": self.losses}
        progress["letters"] = self.letters
        state = stored(self.state, config.download_codec)
        self.directory.save(Checkpoint(state, self.salience, self.clients, progress, self.waiting, self.bases))
        return row

    def put_away(self, turnout):
        """Move the files that the round is done with, and remember those it has used; rows that tell of the others."""
        told, round_ = [{"file": letter.shown, "reason": why} for letter, why in turnout.refused], self.state.round
        if self.inbox is None:
            return told
        for letter, why in turnout.letters():
            if why is None:
                self.letters[letter.digest] = round_
            problem = self.inbox.move(letter, round_, why)
            if problem is not None:
                told.append({"file": letter.shown, "reason": problem})
        # An update that came before is refused as stale once its base is.
        oldest = round_ - self.config.max_staleness - 1
        self.letters = {digest: used for digest, used in self.letters.items() if used >= oldest}
        return told + self.inbox.told

    def too_few(self, turnout):
        """Why a round with so few good updates keeps the state; None where they are enough."""
        good, config = len(turnout.joined), self.config
        if good < config.min_clients:
            return f"{good} good updates, and --min-clients is {config.min_clients}: the state is kept"
        if good < ENOUGH and config.robust != "none":
            return f"{good} good updates, and --robust {config.robust} takes {ENOUGH}: the state is kept"
        return None

    def step(self, turnout, broadcast):
        """The next state; of the clients whose updates are in it, also their records and what they keep."""
        if not turnout.joined:
            return replace(self.state, round=self.state.round + 1)
        updates, spec, base = [update for update, _ in turnout.joined], broadcast.spec, broadcast.public
        updates, shares, refused, remembered = held(self.state, updates, self.strategy, spec, base)
        for client, share in shares.items():
            turnout.note(client, f"its change is too long, and {share:.3g} of it is taken")
        for client, reason in refused.items():
            turnout.refuse(reason, {client})
        self.clients, self.salience = dict(self.clients), dict(self.salience)
        for update, source in turnout.joined:
            self.salience[f"client-{update.client}"] = record_of(update)
            if isinstance(source, Upload):
                self.clients[update.client] = source.state
        records = [self.salience[scope] for scope in sorted(self.salience) if scope != "global"]
        self.salience["global"] = functools.reduce(SalienceRecord.__add__, records)
        return combined(self.state, updates, self.strategy, spec, base, remembered)

    def judge(self, evaluation, turnout):
        """Why the present state is not taken, None where it is: later rounds are then judged by its losses."""
        if not turnout.joined:
            return None
        if evaluation is None:
            return "the aggregated state is not finite"
        losses = losses_of(evaluation, turnout.rows)
        wrong = why_not(losses, self.losses, len(self.data.labels))
        self.losses = self.losses if wrong else losses
        return wrong

    def __enter__(self):
        return self

    def __exit__(self, error, *_):
        """Stop the workers, at once when a round was interrupted or failed."""
        self.engine.close(at_once=error is not None)
        self.log.close()
