"""`fedgate finetune` as a function: labelled images become a personal model and an update."""

import contextlib
import fcntl
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ..board.machine import peak_rss_mb
from ..errors import FedgateError, UsageError
from ..formats.bundle import Bundle
from ..formats.ports import parameters
from ..formats.signed import ClientKey
from ..storage import write_file
from .absent import logit_rows, missing_classes, reference_set
from .evaluate import held_out
from .examples import Examples, load_examples
from .features import DONE
from .notes import notes
from .personal import Personal, write_personal
from .plan import TunePlan
from .programs import load_tail_programs
from .state import initial_state
from .steps import TrainingSet
from .training import run_training
from .trunk_pass import open_features, run_examples
from .update_file import encode_tail_update, start_parameters, update_name

PERSONAL = "personal.safetensors"
WORK, DONE_WITH = "work", ".work.part"


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
    if not 0 <= validation <= 0.9:
        raise UsageError(f"--validation {validation} is out of range: 0 to 0.9")
    if patience is not None and patience < 1:
        raise UsageError(f"--patience {patience} is out of range: 1 or more")
    shutil.rmtree(out / DONE_WITH, ignore_errors=True)
    if (out / PERSONAL).exists() and not (out / WORK).is_dir():
        raise UsageError(f"{out} holds a finished fine-tuning: choose another --out")
    if out.exists() and not (out / WORK).is_dir() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists and is no fine-tuning: choose another --out")
    tail, examples = bundle.tail(), load_examples(data, bundle.manifest)
    programs = load_tail_programs(bundle, runtime, threads=threads)
    if plan.batch_size > bundle.manifest.tail.batch_size:
        most = bundle.manifest.tail.batch_size
        raise UsageError(f"--batch-size {plan.batch_size} is more than the bundle's programs train at once: {most}")
    with _only_here(out / WORK), open_features(out / WORK, bundle, programs, examples, plan.level) as features:
        watcher.images(len(examples))
        bad = run_examples(bundle, programs, examples, features, plan.level, skip_unreadable, watcher.image)
        chosen, held = split(examples, features.done == DONE, validation, plan.seed)
        names = [port.name for port in parameters(programs.train.program)]
        start = initial_state(start_parameters(tail, tail.tensors, names), tail_channels(bundle))
        absent = missing_classes(examples.labels, chosen, len(bundle.manifest.labels))
        unseen = missing_classes(examples.labels, held, len(bundle.manifest.labels))
        reference = reference_set(bundle, programs, start.parameters, unseen, plan.level)
        known = reference and reference.scores(programs, start.parameters, plan.level)
        work = asdict(plan) | {
            "bundle": bundle.manifest.digest,
            "program": programs.train.program.sha256,
            "trunk": programs.trunk.program.sha256,
            "data": examples.digest,
            "left_out": len(bad),
            "validation": validation,
            "patience": patience,
            "client": client,
        }
        still = logit_rows(bundle.manifest, start.parameters, absent)
        learnt = TrainingSet(features, examples.labels, chosen, still)
        done = run_training(
            programs, learnt, held, plan, reference, start, patience, out / WORK, work, progress=watcher.training
        )
        base = {name: tail.tensors[name] for name in tail.spec.parameters}
        blob, _ = encode_tail_update(bundle, tail.spec, base, done.best, plan, client, len(chosen), {})
        blob = blob if key is None else key.sign(blob)
        before, after = done.before, done.epochs[done.best_epoch() - 1]
        result = {
            "bundle": str(bundle.path),
            "runtime": programs.runtime,
            "trunk": programs.trunk.program.file,
            "trainable": bundle.manifest.tail.trainable,
            "density": bundle.manifest.densities[plan.level],
            "examples": len(chosen),
            "validation_examples": len(held),
            "unreadable": bad,
            "left_out": list(examples.left_out),
            "before": before and before["accuracy"],
            "after": after["validation_accuracy"],
            "absent": [bundle.manifest.labels[i] for i in absent],
            "unseen": [bundle.manifest.labels[i] for i in unseen],
            "reference": reference
            and {
                "images": len(reference.labels),
                "classes": reference.classes,
                "labelled": reference.labelled,
                "before": known["accuracy"],
                "after": after["reference_accuracy"],
            },
            "best_epoch": done.best_epoch(),
            "epochs": list(done.epochs),
            "steps": done.best.steps,
            "step_ms": done.seconds * 1e3 / done.state.steps,
            "feature_bytes": features.bytes,
            "update_bytes": len(blob),
            "run_trains_it": bundle.manifest.training.get("trainable") == bundle.manifest.tail.trainable,
            "personal": str(out / PERSONAL),
            "update": str(out / update_name(client)),
        }
    result["notes"] = notes(result, bundle.manifest.labels)
    write_file(out / update_name(client), blob)
    personal = Personal(
        base | done.best.parameters,
        plan.level,
        done.best_epoch(),
        done.best.steps,
        len(chosen),
        result["before"],
        result["after"],
    )
    write_personal(out / PERSONAL, bundle, personal)
    with contextlib.suppress(OSError):
        # without it the fine-tuning is finished; in one step, as half of it would be damaged
        (out / WORK).rename(out / DONE_WITH)
        shutil.rmtree(out / DONE_WITH)
    return result | {"peak_rss_mb": peak_rss_mb()}


def tail_channels(bundle: Bundle) -> int:
    """Channels of all gated layers."""
    return sum(layer.out_channels for layer in bundle.manifest.layers if layer.gate)


def split(examples: Examples, readable: np.ndarray, validation: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows to train on and those held out; readable: bool (n,)."""
    rows = np.flatnonzero(readable)
    return held_out(examples.labels, rows, validation, seed) if validation else (rows, rows[:0])


@contextlib.contextmanager
def _only_here(folder: Path):
    """Hold a folder for this process; the kernel lets go of it when that ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "lock", "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
    except BlockingIOError as error:
        raise FedgateError(f"another process is working in {folder.parent}: wait for it or stop it first") from error
    except OSError as error:
        raise FedgateError(f"cannot write {folder}: {error.strerror or error}") from error
