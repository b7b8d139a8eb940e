"""The rows of metrics.jsonl: one a client in a round, and one a round.

A client's `status`: "used" in this round's state; "waiting", good but late, or too few came, and kept for a later
round; "refused", with the `reason`; "dropped", it vanished. `base_round` tells of which state it is an update.
`bytes_up` are counted in the round in which they were sent, `simulated_seconds` from that round's start. `file`: of the
inbox. `bounded`: what of a used update was not taken as it came. A round's `refused_files` are those of the inbox; its
`reason` tells why the state was kept, if it was.
"""

import numpy as np

from fedgate.device_runtime.formats import macs

from ..network.channels import record_of


def client_row(layers, densities, round_, client, status, **known):
    """A client's row. densities: of the round, by level. known: fields that differ from the blank ones below."""
    level = len(densities) - 1 if known.get("level") is None else known["level"]
    update = known.pop("update", None)
    return {
        "round": round_,
        "client": client,
        "status": status,
        "reason": None,
        "bounded": None,
        "base_round": round_ - 1,
        "file": None,
        "level": None,
        "examples": update.examples if update else None,
        "loss": None,
        "accuracy": None,
        "bytes_up": 0,
        "bytes_down": 0,
        "macs_per_sample": sum(macs.nominal(layers, densities[level]).values()),
        "kept_share": None,
        "mask_overlap": mean_overlap(record_of(update), level) if update else None,
        "simulated_seconds": None,
        "cpu_seconds": 0.0,
        "seconds": 0.0,
    } | known


def round_row(evaluation, rows, round_, densities, epochs):
    """The round's own line; its accuracy, MACs and overlap are of the default (highest) level on the test set.

    The test set is seen at the densities of the round, as the network was trained: it is tied to them, and a schedule
    that has not arrived yet would make it look worse than it is. examples, loss: of the updates that were used.
    """
    top = len(densities) - 1
    statistics = evaluation.salience.mask_statistics(top)
    used = [row for row in rows if row["status"] == "used"]
    trained = [row for row in rows if row["loss"] is not None]
    told = [row for row in used if row["loss"] is not None]
    cpu_seconds = sum(row["cpu_seconds"] for row in rows)
    return {
        "round": round_,
        "client": None,
        "density": densities,
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
        "images_per_cpu_second": epochs * sum(row["examples"] for row in trained) / max(cpu_seconds, 1e-3),
    }


def mean_overlap(record, level):
    """Mean over the gated layers of how much the masks of different inputs overlap; None without gates."""
    statistics = record.mask_statistics(level)
    return float(np.mean([overlap for overlap, _, _ in statistics.values()])) if statistics else None
