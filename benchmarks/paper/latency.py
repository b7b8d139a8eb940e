"""Question d: the networks of question c as programs of each runtime, timed in turn in one process."""

from dataclasses import replace

from latency.measure import can_be_made, kernel, measured
from latency.programs import Subject, choosing, lower_all, plain, static
from paper.answers import front, over_seeds
from rich.console import Console

from fedgate.device_runtime.formats import macs
from fedgate.device_runtime.formats.manifest import RUNTIMES
from fedgate.export.pipeline import load_network, test_images
from fedgate.export.reference import EagerReference, kept_by_record
from fedgate.export.skip import skip_network
from fedgate.train.ingredients import run_data

IMAGES = 8  # of the test set, timed in turn


def latency_rows(trained, accuracy_rows, seconds, runtimes=RUNTIMES):
    """The rows of question d, dense first on each runtime; trained: (arm, path of its run) of one seed, dense first.

    accuracy_rows: question c's, whose accuracies over all seeds the programs get. seconds: of timing, for each runtime.
    """
    kernel()
    of, variants = programs_of(trained)
    worth = accuracies(accuracy_rows)
    rows = []
    with Console(stderr=True).status("") as status:
        for runtime in runtimes:
            usable = [variant for variant in variants if can_be_made(variant, runtime)]
            found = measured(of, lower_all(of, usable, runtime, False, status), runtime, 1, seconds, status)
            told = [row | {"timed_rounds": row["rounds"]} | worth.get((row["arm"], row["role"]), {}) for row in found]
            rows += with_front([{"part": "d"} | row for row in told])
    return rows


def programs_of(trained):
    """(the dense `Subject`, the `Variant`s): slim networks as they are, gated ones as `skip` and as `static`."""
    directory, dense = load_network(trained[0][1])
    config, (data, _) = directory.info.config, run_data(directory.info)
    of = Subject(
        model=config.model,
        size=dense.shape[-1],
        network=dense,
        dense=dense,
        densities=(),
        calibration=None,
        images=test_images(data, IMAGES),
        data=data.name,
        dense_macs=macs.total(macs.dense(dense.layers)),
    )
    variants = []
    for arm, path in trained:
        directory, network = load_network(path)
        mine = replace(of, network=network)
        if not arm.gated:
            role, density = ("dense", None) if arm.kind == "dense" else ("slim", arm.density)
            made = [plain(mine, role, density, network)]
        else:
            reference = EagerReference(network)
            kept = kept_by_record(network, directory.load().salience["global"], 0)
            made = []
            if not arm.chooses or arm.density < 1:  # else nothing is left out
                made.append(static(mine, reference, network.densities[0], kept))
            if arm.chooses:
                made.append(choosing(mine, reference, "skip", skip_network(network), (0,)))
        variants += [replace(variant, arm=arm.name, densities=[arm.density]) for variant in made]
    return of, variants


def accuracies(rows):
    """(arm, role) -> accuracy over the seeds, from rows of question c; a static network has masks of its own."""
    found = {}
    for arm, fields in over_seeds(rows, "accuracy", "static_accuracy").items():
        kind = next(row["kind"] for row in rows if row["arm"] == arm)
        for role in {"dense": ("dense",), "slim": ("slim",), "narrow": ("slim",)}.get(kind, ("skip", "static")):
            fixed = role == "static" and not kind.endswith("-scale")
            values = fields.get("static_accuracy") if fixed else fields["accuracy"]
            if values:
                found[arm, role] = dict(zip(("accuracy", "accuracy_low", "accuracy_high"), values, strict=True))
    return found


def with_front(rows):
    """The rows of a runtime, those that are measured told whether they are on the Pareto front of time and accuracy."""
    timed = [row for row in rows if row["ratio_to_dense"] is not None]
    best = {id(timed[i]) for i in front([(row["ratio_to_dense"], row["accuracy"]) for row in timed])}
    return [row | {"on_front": id(row) in best} if row in timed else row for row in rows]
