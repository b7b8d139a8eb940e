"""`fedgate finetune` as a function: labelled images become a personal model and an update."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..board.machine import peak_rss_mb
from ..errors import UsageError
from ..formats.bundle import Bundle
from ..formats.ports import parameters
from ..formats.signed import ClientKey
from ..storage import write_file
from .absent import ReferenceSet, logit_rows, missing_classes, reference_set
from .evaluate import held_out
from .examples import Examples, load_examples
from .features import DONE, Features
from .notes import notes
from .personal import Personal, write_personal
from .place import PERSONAL, WORK, check_out, only_here, remove_work
from .plan import TunePlan
from .programs import TailPrograms, load_tail_programs
from .state import initial_state
from .steps import TrainingSet
from .training import Progress, run_training
from .trunk_pass import open_features, run_examples
from .update_file import encode_tail_update, start_parameters, update_name


class Watcher:
    """What a caller may show while it waits; this one shows nothing."""

    def images(self, total: int) -> None:
        """Called once before the trunk runs over `total` images, and `image` after each of them."""

    def image(self) -> None: ...

    def training(self, progress) -> None:
        """Called after each step and each epoch with a `training.Progress`."""


def finetune(
    bundle: Bundle,
    data: Path,
    out: Path,
    plan: TunePlan,
    runtime: str | None = None,
    validation: float = 0.2,
    patience: int | None = 3,
    client: int = 0,
    skip_unreadable: bool = False,
    threads: int = 1,
    key: ClientKey | None = None,
    watcher: Watcher | None = None,
) -> dict:
    """Fine-tune a bundle's tail on labelled images; writes personal.safetensors and an update into the folder `out`.

    The same call goes on where an interrupted one stopped, and ends with the same bytes. validation: the share of each
    class that is held out to judge by; patience: epochs without a lower loss on it before the training stops. client:
    the number under which the server knows this device; key: its key, which signs the update. Returns a JSON object.
    Raises `UsageError` for an `out` that is taken, `FedgateError` for images that cannot be read.
    """
    out, watcher = Path(out), watcher or Watcher()
    check_numbers(bundle, plan, validation, patience)
    check_out(out)
    tail, examples = bundle.tail(), load_examples(data, bundle.manifest)
    programs = load_tail_programs(bundle, runtime, threads=threads)
    asked = {"validation": validation, "patience": patience, "client": client}
    with only_here(out / WORK), open_features(out / WORK, bundle, programs, examples, plan.level) as features:
        watcher.images(len(examples))
        bad = run_examples(bundle, programs, examples, features, plan.level, skip_unreadable, watcher.image)
        learning = Learning(examples, features, len(bad))
        tuned = train_tail(bundle, tail, programs, learning, plan, asked, out / WORK, watcher)
        base = {name: tail.tensors[name] for name in tail.spec.parameters}
        best, used = tuned.training.best, len(tuned.chosen)
        blob, _ = encode_tail_update(bundle, tail.spec, base, best, plan, client, used, {})
        blob = blob if key is None else key.sign(blob)
        result = describe(bundle, programs, examples, plan, tuned) | {
            "unreadable": bad,
            "feature_bytes": features.bytes,
            "update_bytes": len(blob),
            "personal": str(out / PERSONAL),
            "update": str(out / update_name(client)),
        }
    result["notes"] = notes(result, bundle.manifest.labels)
    write_file(out / update_name(client), blob)
    scores = result["before"], result["after"]
    personal = Personal(base | best.parameters, plan.level, result["best_epoch"], best.steps, used, *scores)
    write_personal(out / PERSONAL, bundle, personal)
    remove_work(out)
    return result | {"peak_rss_mb": peak_rss_mb()}


def check_numbers(bundle: Bundle, plan: TunePlan, validation: float, patience: int | None) -> None:
    if not 0 <= validation <= 0.9:
        raise UsageError(f"--validation {validation} is out of range: 0 to 0.9")
    if patience is not None and patience < 1:
        raise UsageError(f"--patience {patience} is out of range: 1 or more")
    most = bundle.manifest.tail.batch_size if bundle.manifest.tail else plan.batch_size
    if plan.batch_size > most:
        raise UsageError(f"--batch-size {plan.batch_size} is more than the bundle's programs train at once: {most}")


@dataclass(frozen=True)
class Learning:
    """What a tail learns from: examples, the trunk's features of them, and how many were left out as unreadable."""

    examples: Examples
    features: Features
    left_out: int


@dataclass(frozen=True)
class Tuned:
    """A finished training. chosen, held_out: rows of the examples; absent, unseen: classes that these lack.

    reference: the bundle's own images of the unseen classes, where it has some, and their scores before.
    """

    training: Progress
    chosen: np.ndarray
    held_out: np.ndarray
    absent: list[int]
    unseen: list[int]
    reference: ReferenceSet | None
    before: dict | None


def train_tail(bundle, tail, programs: TailPrograms, learning: Learning, plan, asked, work, watcher) -> Tuned:
    """Train the tail, or go on with that in the folder `work`.

    asked: the options that decide what comes out, beside the plan.
    """
    manifest, examples, features = bundle.manifest, learning.examples, learning.features
    chosen, validated = split(examples, features.done == DONE, asked["validation"], plan.seed)
    names = [port.name for port in parameters(programs.train.program)]
    start = initial_state(start_parameters(tail, tail.tensors, names), tail_channels(bundle))
    absent = missing_classes(examples.labels, chosen, len(manifest.labels))
    unseen = missing_classes(examples.labels, validated, len(manifest.labels))
    reference = reference_set(bundle, programs, start.parameters, unseen, plan.level)
    before = reference and reference.scores(programs, start.parameters, plan.level)
    same = asdict(plan) | {
        "bundle": manifest.digest,
        "program": programs.train.program.sha256,
        "trunk": programs.trunk.program.sha256,
        "data": examples.digest,
        "left_out": learning.left_out,
        **asked,
    }
    learnt = TrainingSet(features, examples.labels, chosen, logit_rows(manifest, start.parameters, absent))
    judged = validated, plan, reference, start, asked["patience"], work, same
    done = run_training(programs, learnt, *judged, progress=watcher.training)
    return Tuned(done, chosen, validated, absent, unseen, reference, before)


def describe(bundle: Bundle, programs: TailPrograms, examples: Examples, plan: TunePlan, tuned: Tuned) -> dict:
    """A finished training as a JSON object."""
    done, reference, labels = tuned.training, tuned.reference, bundle.manifest.labels
    after = done.epochs[done.best_epoch() - 1]
    trainable = bundle.manifest.tail.trainable
    return {
        "bundle": str(bundle.path),
        "runtime": programs.runtime,
        "trunk": programs.trunk.program.file,
        "trainable": trainable,
        "density": bundle.manifest.densities[plan.level],
        "examples": len(tuned.chosen),
        "validation_examples": len(tuned.held_out),
        "left_out": list(examples.left_out),
        "before": done.before and done.before["accuracy"],
        "after": after["validation_accuracy"],
        "absent": [labels[i] for i in tuned.absent],
        "unseen": [labels[i] for i in tuned.unseen],
        "reference": reference
        and {
            "images": len(reference.labels),
            "classes": reference.classes,
            "labelled": reference.labelled,
            "before": tuned.before["accuracy"],
            "after": after["reference_accuracy"],
        },
        "best_epoch": done.best_epoch(),
        "epochs": list(done.epochs),
        "steps": done.best.steps,
        "step_ms": done.seconds * 1e3 / done.state.steps,
        "run_trains_it": bundle.manifest.training.get("trainable") == trainable,
    }


def tail_channels(bundle: Bundle) -> int:
    """Channels of all gated layers."""
    return sum(layer.out_channels for layer in bundle.manifest.layers if layer.gate)


def split(examples: Examples, readable: np.ndarray, validation: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows to train on and those held out; readable: bool (n,)."""
    rows = np.flatnonzero(readable)
    return held_out(examples.labels, rows, validation, seed) if validation else (rows, rows[:0])
