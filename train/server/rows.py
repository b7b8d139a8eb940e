"""The rows of metrics.jsonl, made once a round is decided: one a client, and one of the round.

A client's row tells its `ClientOutcome`. `bytes_up` are counted in the round in which they were sent,
`simulated_seconds` from that round's start. `file`: of the inbox. A round's `refused_files` are those of the inbox; its
`reason` tells why the state was kept, if it was.
"""

import numpy as np

from fedgate.device_runtime.formats import macs

from ..network.channels import kept_share, record_of
from .inbox import Letter
from .outcome import ClientOutcome
from .round_input import RoundInput
from .verdict import Verdict


def client_rows(start: RoundInput, outcomes):
    """The rows of a round's clients, in the order of their numbers."""
    return [client_row(start, outcome) for outcome in sorted(outcomes, key=lambda outcome: outcome.client)]


def client_row(start: RoundInput, outcome: ClientOutcome):
    level = len(start.densities) - 1 if outcome.level is None else outcome.level
    came, source = outcome.came, outcome.source
    return {
        "round": start.done + 1,
        "client": outcome.client,
        "status": outcome.status,
        "reason": outcome.reason,
        "bounded": "; ".join(outcome.bounded) or None,
        "base_round": outcome.base_round,
        "file": source.shown if isinstance(source, Letter) else None,
        "level": outcome.level,
        "examples": outcome.counted,
        "loss": outcome.loss,
        "accuracy": outcome.accuracy,
        "bytes_up": outcome.bytes_up,
        "bytes_down": outcome.bytes_down,
        "macs_per_sample": sum(macs.nominal(start.network.layers, start.densities[level]).values()),
        "kept_share": None if came is None else kept_share(came, start.broadcast.spec),
        "mask_overlap": None if came is None else mean_overlap(record_of(came), level),
        "simulated_seconds": outcome.simulated_seconds,
        "cpu_seconds": round(outcome.cpu_seconds, 3),
        "seconds": round(outcome.seconds, 3),
    }


def round_row(start: RoundInput, verdict: Verdict, rows, refused_files, seconds):
    """The round's own row; its accuracy, MACs and overlap are of the default (highest) level on the test set.

    rows: of its clients. The test set is seen at the densities of the round, as the network was trained: it is tied to
    them, and a schedule that has not arrived yet would make it look worse than it is. examples, loss: of the updates
    that were used.
    """
    evaluation, top = verdict.evaluation, len(start.densities) - 1
    statistics = evaluation.salience.mask_statistics(top)
    used = [row for row in rows if row["status"] == "used"]
    trained = [row for row in rows if row["loss"] is not None]
    told = [row for row in used if row["loss"] is not None]
    cpu_seconds = sum(row["cpu_seconds"] for row in rows)
    images = start.config.local_epochs * sum(row["examples"] for row in trained)
    return {
        "round": start.done + 1,
        "client": None,
        "density": start.densities,
        "examples": sum(row["examples"] for row in used),
        "loss": sum(row["loss"] * row["examples"] for row in told) / sum(row["examples"] for row in told)
        if told
        else None,
        "accuracy": evaluation.accuracy()[top],
        "accuracy_by_level": evaluation.accuracy(),
        "test_loss": evaluation.loss[top] / evaluation.images[top],
        "updates": len(used),
        "cpu_seconds": cpu_seconds,
        "bytes_up": sum(row["bytes_up"] for row in rows),
        "bytes_down": sum(row["bytes_down"] for row in rows),
        "macs_per_sample": evaluation.executed[top].sum() / evaluation.images[top],
        "kept_share": float(np.mean([row["kept_share"] for row in used])) if used else None,
        "mask_overlap": mean_overlap(evaluation.salience, top),
        "masks": {
            name: {"overlap": overlap, "never": never, "always": always}
            for name, (overlap, never, always) in statistics.items()
        },
        "images_per_cpu_second": images / max(cpu_seconds, 1e-3),
        "simulated_seconds": verdict.turnout.ended - start.clock,
        "simulated_hours": verdict.turnout.ended / 3600,
        "reason": verdict.reason,
        "refused_files": refused_files,
        "seconds": round(seconds, 3),
    }


def mean_overlap(record, level):
    """Mean over the gated layers of how much the masks of different inputs overlap; None without gates."""
    statistics = record.mask_statistics(level)
    return float(np.mean([overlap for overlap, _, _ in statistics.values()])) if statistics else None
