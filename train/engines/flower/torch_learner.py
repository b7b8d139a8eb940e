"""A client's training with torch: the local engine's own, on a machine of its own."""

import dataclasses
import json
import typing

import torch

from fedgate.device_runtime.errors import FedgateError, UsageError

from ...config.resolve import JSON_KINDS, changed, read_config
from ...ingredients import check_data, make_network, prepare, resolve_device
from ...local.client import LocalPlan
from ...network.build import load_tensors
from ...server.plans import expected_updates
from ...server.run_directory import RunInfo
from ..loop import Trainer
from .messages import FIGURES
from .worker import Trained, log

PLAN_KINDS = JSON_KINDS | {int | None: int | None, bool: bool, int: int, str: str}


class TorchLearner:
    """See `worker`. data: where the run's data lies on this machine, None for where the server has them."""

    def __init__(self, document, client, frozen, data=None, device="auto", own_code=False):
        info = run_info(document)
        config = info.config if data is None else changed(info.config, data=data)
        if ":" in config.model and not own_code:
            raise UsageError(f"the run's network is a file, {config.model}: this node executes it only with --own-code")
        if client >= config.clients:
            raise UsageError(f"the run has clients 0 to {config.clients - 1}, and this node is client {client}")
        loaded, parts = prepare(config)
        check_data(info, loaded, config.data)
        for warning in loaded.warnings:
            log.warning("%s", warning)
        network = make_network(info, resolve_device(device))
        if frozen is not None:
            load_tensors(network, frozen, partly=True)
        self.spec = expected_updates(info, network)
        self.trainer = Trainer(network, loaded, parts, info.resolved["precision"])

    def train(self, task, download, held, state):
        spec = dataclasses.replace(self.spec, base_round=task.base_round, base_hash=task.base_hash)
        result = self.trainer.train(task.client, download, held, spec, local_plan_of(task.plan), state)
        figures = {name: getattr(result, name) for name in FIGURES}
        return Trained(result.blob, result.state, self.trainer.base, figures)

    def close(self):
        """It holds nothing but memory."""


def run_info(document):
    """A run's description as the server sent it. Raises `FedgateError` for that of another version of fedgate."""
    try:
        config = read_config(json.dumps(document["config"]))
        return RunInfo(document["run"], config, *(document[key] for key in ("resolved", "data", "versions")))
    except (KeyError, TypeError, UsageError) as error:
        raise FedgateError(f"this node's fedgate does not understand the run: {error}") from error


def local_plan_of(fields):
    """A `LocalPlan` from its fields as JSON has them, each of its type."""
    kinds = typing.get_type_hints(LocalPlan)
    if set(fields) != set(kinds):
        raise FedgateError(f"the plan lacks or does not know: {', '.join(sorted(set(fields) ^ set(kinds)))}")
    for name, kind in kinds.items():
        if not isinstance(fields[name], PLAN_KINDS.get(kind, kind)):
            raise FedgateError(f"the plan's {name} is {fields[name]!r}")
    return LocalPlan(**fields | {"densities": tuple(fields["densities"])})


def set_threads(threads):
    torch.set_num_threads(threads)
