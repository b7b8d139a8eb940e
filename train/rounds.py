"""A training run: from a resolved configuration to a run directory, round by round."""

import functools
import hashlib
import platform
import time
import uuid
from dataclasses import replace
from importlib import metadata

import torch

from fedgate.device_runtime.errors import UsageError

from .arrivals import Upload, bases_needed
from .checkpoint import Checkpoint
from .client import LocalPlan, client_seed, resolve_precision
from .clocks import make_clocks
from .cohort import CohortEngine
from .config import TrainConfig
from .data import load_data
from .downloads import Broadcast, note_changes
from .gather import gather
from .inbox import Inbox
from .local_engine import LocalEngine
from .network import build_network, load_tensors, network_tensors
from .norms import pooled_norms
from .partition import class_table, partition
from .rows import round_row
from .run_directory import MetricsLog, RunDirectory, RunInfo
from .salience import SalienceRecord
from .schedule import densities_at, learning_rate_at
from .selection import capacity_levels
from .strategies import initial_state, round_step, strategy_of
from .tails import freeze, trunk
from .wire import record_of, update_spec

SERVER_STREAM = 2**32 - 1  # beside the numbers of clients in seeds


def resolve_device(name):
    """ "auto" is CUDA where there is one, else the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device '{name}' cannot be used here: {str(error).splitlines()[0]}") from error
    return device


def data_facts(data):
    """What a run records of its data; the hash tells whether a resumed run still has the same."""
    digest = hashlib.sha256()
    for tensor in (data.train_images, data.train_labels, data.test_images, data.test_labels):
        digest.update(tensor.contiguous().numpy().tobytes())
    return {
        "name": data.name,
        "sha256": digest.hexdigest(),
        "labels": list(data.labels),
        "shape": list(data.train_images.shape[1:]),
        "mean": [float(value) for value in data.mean],
        "std": [float(value) for value in data.std],
    }


def describe_run(config: TrainConfig, data) -> RunInfo:
    """Look up everything that "auto" stands for, once: a resumed run keeps it."""
    device = resolve_device(config.device)
    resolved = {
        "device": device.type,
        "precision": resolve_precision(config.precision, device),
        "augment": data.augment if config.augment == "auto" else config.augment,
    }
    versions = {name: metadata.version(name) for name in ("fedgate", "torch", "numpy")}
    versions["python"] = platform.python_version()
    return RunInfo(uuid.uuid4().hex[:12], config, resolved, data_facts(data), versions)


def make_network(info: RunInfo, device="cpu", tensors=None):
    """A run's network with its initial weights, which its seed alone decides, or with those of named arrays."""
    config, data = info.config, info.data
    torch.manual_seed(config.seed)
    network = build_network(config.model, config.gate, config.density, len(data["labels"]), data["shape"], config.width)
    if tensors is not None:
        load_tensors(network, tensors)
    freeze(network, trunk(network.layers, config.trainable))
    return network.to(device)


def base_tensors(info: RunInfo):
    """The weights that a run starts from where it has a `base`, else None; a base of another network is refused."""
    if info.config.base is None:
        return None
    tensors = RunDirectory.open(info.config.base).model_tensors()
    make_network(info, tensors=tensors)
    return tensors


def run_data(config: TrainConfig):
    """The data of a configuration."""
    return load_data(config.data, config.label, config.group, config.image_size)


def prepare(config: TrainConfig):
    """The data of a configuration and its partition: (data, list of index arrays, one a client)."""
    data = run_data(config)
    parts = partition(
        data.train_labels.numpy(), config.clients, config.partition, config.seed, groups=data.train_groups
    )
    return data, parts


def make_engine(info: RunInfo, data, parts, workers, tensors=None):
    """The engine that trains and evaluates a run's network; "auto" is the cohort where there is a GPU to fill.

    tensors: what the networks hold of the frozen layers, which no download brings.
    """
    if data_facts(data)["sha256"] != info.data["sha256"]:
        raise UsageError(f"'{info.config.data}' now holds other data than this run was trained on")
    build = functools.partial(make_network, info, info.resolved["device"], tensors)
    plain = info.config.algorithm != "scaffold" and info.config.trainable == "all"
    auto = "cohort" if info.resolved["device"] == "cuda" and plain else "loop"
    engine = auto if info.config.engine == "auto" else info.config.engine
    kind = CohortEngine if engine == "cohort" else LocalEngine
    return kind(build, data, parts, info.resolved["precision"], workers)


class Run:
    """A run directory with the state of its newest checkpoint, and the round loop over it."""

    def __init__(self, directory: RunDirectory, data, parts, workers=1):
        self.directory, self.data, self.parts = directory, data, parts
        self.info, self.config = directory.info, directory.info.config
        self.network = make_network(self.info)
        self.layers = self.network.layers
        self.table = class_table(data.train_labels.numpy(), parts, len(data.labels))
        self.clocks, self.client_levels = make_clocks(self.config), capacity_levels(self.config)
        self.inbox = Inbox(self.config.inbox, self.info.run) if self.config.inbox else None
        self.strategy = strategy_of(self.config, self.network)
        self.log = MetricsLog(directory.path / "metrics.jsonl")  # from here on no other process has this run
        try:
            self.load()
            frozen = self.state.tensors if self.network.frozen else None
            self.engine = make_engine(self.info, data, parts, workers, frozen)
        except BaseException:
            self.log.close()
            raise

    def load(self):
        """Take up the newest checkpoint, or the initial state where there is none."""
        checkpoint = self.directory.load()
        if checkpoint is None:
            initial = initial_state(base_tensors(self.info) or network_tensors(self.network), self.strategy)
            checkpoint = Checkpoint(initial, progress={"metrics_bytes": 0, "simulated_seconds": 0.0})
        self.state, self.salience, self.clients = checkpoint.state, checkpoint.salience, checkpoint.clients
        self.waiting, self.bases = checkpoint.waiting, checkpoint.bases
        self.clock = checkpoint.progress["simulated_seconds"]
        self.log.cut(checkpoint.progress["metrics_bytes"])
        if self.inbox:
            self.inbox.restore(self.state.round)

    @property
    def densities(self):
        """Of the round that follows the present state, by level."""
        config = self.config
        return densities_at(config.density, self.state.round, config.rounds, config.density_schedule)

    def plan(self, client):
        """What a client is asked to do in the round that follows the present state."""
        config, done = self.config, self.state.round
        return LocalPlan(
            densities=self.densities,
            level=self.client_levels[client],
            epochs=config.local_epochs,
            batch_size=config.batch_size,
            lr=learning_rate_at(
                config.lr,
                done,
                config.rounds,
                config.lr_schedule,
                config.lr_decay,
                config.fraction_train * config.local_epochs,
            ),
            lr_decay=config.lr_decay if config.lr_schedule == "exponential" else 1.0,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            clip_norm=config.clip_norm,
            augment=self.info.resolved["augment"],
            precision=self.info.resolved["precision"],
            seed=client_seed(config.seed, done, client),
            adaptive_gradient=config.adaptive_gradient,
            algorithm=config.algorithm,
            proximal_mu=config.proximal_mu,
            upload_share=config.upload_share if config.upload == "salient" else None,
            codec=config.codec,
        )

    def broadcast(self):
        """What the server sends at the start of the round that follows the present state."""
        control = sorted(self.strategy.parameters) if self.config.algorithm == "scaffold" else ()
        spec = update_spec(self.network, self.info.run, control)
        seed = (self.config.seed, self.state.round, SERVER_STREAM)
        return Broadcast(self.state, spec, self.config.download_codec, seed)

    def rounds(self):
        """Run what is left of the rounds; yields each round's row of metrics.jsonl."""
        while self.state.round < self.config.rounds:
            yield self.round()
        if not self.directory.model_path.exists():
            self.directory.write_model(self.state)

    def round(self):
        """One round: download, local training, upload, aggregation, evaluation, checkpoint."""
        started, config, densities = time.perf_counter(), self.config, self.densities
        broadcast = self.broadcast()
        turnout = gather(self, broadcast)
        good, reason = len(turnout.joined), None
        if good < config.min_clients:
            reason = f"{good} good updates, and --min-clients is {config.min_clients}: the state is kept"
            turnout.keep_for_later()
        after = note_changes(self.state, self.aggregate(turnout, broadcast), broadcast.spec, broadcast.public)
        spent = turnout.ended - self.clock
        needed = bases_needed(after.round, turnout.waiting, config.max_staleness, self.inbox is not None)
        bases = self.bases | {self.state.round: broadcast.public}
        self.bases = {base: bases[base] for base in needed}
        self.state, self.waiting, self.clock = after, turnout.waiting, turnout.ended
        if config.reestimate_norms and self.state.round == config.rounds:
            self.state = replace(self.state, tensors=self.state.tensors | pooled_norms(self, turnout))
        evaluation = self.engine.evaluate(self.state.tensors, densities)
        row = round_row(evaluation, turnout.rows, self.state.round, densities, config.local_epochs) | {
            "simulated_seconds": spent,
            "simulated_hours": self.clock / 3600,
            "reason": reason,
            "refused_files": [{"file": letter.path.name, "reason": why} for letter, why in turnout.refused],
            "seconds": round(time.perf_counter() - started, 3),
        }
        for line in (*turnout.rows, row):
            self.log.write(line)
        for letter, why in turnout.letters():
            self.inbox.move(letter, self.state.round, why)
        progress = {"metrics_bytes": self.log.sync(), "simulated_seconds": self.clock}
        self.directory.save(Checkpoint(self.state, self.salience, self.clients, progress, self.waiting, self.bases))
        return row

    def aggregate(self, turnout, broadcast):
        """The next state; of the clients whose updates are in it, also their records and what they keep."""
        if not turnout.joined:
            return replace(self.state, round=self.state.round + 1)
        for update, source in turnout.joined:
            self.salience[f"client-{update.client}"] = record_of(update)
            if isinstance(source, Upload):
                self.clients[update.client] = source.state
        clients = [self.salience[scope] for scope in sorted(self.salience) if scope != "global"]
        self.salience["global"] = functools.reduce(SalienceRecord.__add__, clients)
        updates = [update for update, _ in turnout.joined]
        return round_step(self.state, updates, self.strategy, broadcast.spec, broadcast.public)

    def __enter__(self):
        return self

    def __exit__(self, error, *_):
        """Stop the workers, at once when a round was interrupted or failed."""
        self.engine.close(at_once=error is not None)
        self.log.close()
