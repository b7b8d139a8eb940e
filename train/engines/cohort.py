"""The `cohort` engine: the clients of a round train together on one GPU, as stacked networks (see `local.stack`).

It gives what the loop gives, up to the order of floating-point sums; evaluation and fine-tuning are the loop's own.
"""

import dataclasses
import logging
import time

from fedgate.device_runtime.errors import UsageError
from fedgate.device_runtime.formats.update import apply_download
from fedgate.device_runtime.formats.uploads import weights

from ..local.client import LocalPlan
from ..local.stack import train_together
from ..local.stacked_forward import loose_tensor, random_node, strange_node
from ..network.build import load_tensors
from .loop import LoopEngine

TOGETHER = 16  # clients in one stack: their activations are in memory at the same time
# What a `Stack` knows of a plan; `upload_share` and `codec` are of the upload, and `sliced` computes the same.
KNOWN = {"densities", "epochs", "batch_size", "lr", "momentum", "weight_decay", "clip_norm", "augment", "precision",
         "lr_decay", "adaptive_gradient", "algorithm", "proximal_mu", "upload_share", "codec", "sliced",
         "distill", "temperature"}  # fmt: skip
OWN = {"seed", "level"}


def reason_against(network, plans):
    """Why clients with these plans have to train one after the other, in words; None where they need not."""
    node = random_node(network)
    if node is not None:
        return f"{node} drops out at random, and each client draws for itself"
    if network.training_graph is not None:
        return "the network computes in training something else than in evaluation"
    node = strange_node(network)
    if node is not None:
        return f"{node} is nothing that stacked networks have"
    loose = loose_tensor(network)
    if loose is not None:
        return f"'{loose}' belongs to no layer"
    if any(plan.algorithm == "scaffold" for plan in plans):
        return "SCAFFOLD's control variates are the loop's alone"
    for field in dataclasses.fields(LocalPlan):
        values = [getattr(plan, field.name) for plan in plans]
        if field.name not in KNOWN | OWN and any(value != field.default for value in values):
            return f"the clients' plans have {field.name}, which is the loop's alone"
        if field.name not in OWN and any(value != values[0] for value in values):
            return f"the clients' plans differ in {field.name}"
    return None


class CohortEngine(LoopEngine):
    """A `LoopEngine` of one process that trains up to `TOGETHER` clients at a time."""

    reason = None  # why the last round's clients trained one after the other

    def train(self, tasks):
        if self.pool:
            raise UsageError("--workers is for --engine loop: the cohort engine trains its clients in one process")
        tasks = list(tasks)
        reason = tasks and reason_against(self.trainer.network, [task.plan for task in tasks])
        if reason:
            if reason != self.reason:
                logging.getLogger(__name__).warning("clients train one after the other: %s", reason)
            self.reason = reason
            yield from super().train(tasks)
            return
        for start in range(0, len(tasks), TOGETHER):
            yield from self.together(tasks[start : start + TOGETHER])

    def together(self, tasks):
        """Train clients in one stack; yields their `TaskResult`s, each with an equal share of the time."""
        started, cpu, trainer = time.perf_counter(), time.process_time(), self.trainer
        bases = {}  # by the round whose weights a client holds; what it then has is the same
        for task in tasks:
            if task.held not in bases:
                bases[task.held] = apply_download(task.download, task.broadcast.spec, task.base)
        load_tensors(trainer.network, weights(bases[tasks[0].held]), partly=True)  # what is frozen does not travel
        examples = [trainer.examples(task.client) for task in tasks]
        found = train_together(
            trainer.network, examples, trainer.statistics, [task.plan for task in tasks], trainer.teacher
        )
        share = 1 / len(tasks)
        seconds, cpu_seconds = (time.perf_counter() - started) * share, (time.process_time() - cpu) * share
        for task, (tensors, result) in zip(tasks, found, strict=True):
            load_tensors(trainer.network, tensors)
            base, clocks = bases[task.held], (time.perf_counter() - seconds, time.process_time() - cpu_seconds)
            yield trainer.send(task.client, result, task.broadcast.spec, base, task.plan, task.state, *clocks)
