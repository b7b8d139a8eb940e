"""Building a bundle: every program is lowered, staged, run and compared; only then the bundle is written."""

import contextlib
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from fedgate.device_runtime.engines.guard import remember
from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.formats.bundle import write_bundle
from fedgate.device_runtime.formats.manifest import TAIL_FILE
from fedgate.device_runtime.formats.records import REFERENCE_META
from fedgate.device_runtime.formats.roles import TAIL_ROLES
from fedgate.device_runtime.formats.tail import pack_tail
from fedgate.device_runtime.formats.tensors import pack
from fedgate.device_runtime.kernels.build import ensure
from fedgate.device_runtime.storage import scratch_folder
from fedgate.device_runtime.verify import verify

from .left_out import LeftOut
from .plan import Plan
from .programs import plan_programs
from .reference import labelled, reference_outputs
from .tail_plans import plan_tail_programs
from .trainable import check_runtimes

REFERENCE_IMAGES = 8  # kept in the bundle


class Made(NamedTuple):
    """A program: its plan, its entry in the manifest, and its files by name."""

    plan: Plan
    entry: dict
    files: dict[str, bytes]


def build_bundle(
    network, dense, kept, images, runtimes, out, fields, salience, overwrite, console, part=None, data=None, notes=None
):
    """Lower, stage, run, compare, and only then write.

    part: the `Trainable` of a bundle that trains, on whose `data`, the run's, training is compared.
    """
    expected = reference_outputs(network, dense, kept, images)
    tensors = {name: value[:REFERENCE_IMAGES] for name, value in expected.items()} | (labelled(data) if part else {})
    files, left_out = {"salience.safetensors": salience}, LeftOut(console, notes)
    files["reference.safetensors"] = pack({"image": images[:REFERENCE_IMAGES], **tensors}, REFERENCE_META)
    plans = plan_programs(network, dense, kept, images, expected)
    tail_plans = [] if part is None else plan_tail_programs(part, images, data)
    if kernel_missing(runtimes, plans, console):
        plans, tail_plans = ([plan for plan in each if not plan.kernel_layers] for each in (plans, tail_plans))
    made = make(plans, runtimes, console, left_out)
    left_out.refuse_nothing(made)
    if part is not None:
        trained = make_together(tail_plans, check_runtimes(runtimes), console, left_out)
        left_out.refuse_nothing(trained)
        made += trained
        files[TAIL_FILE] = pack_tail(part.tail)
        fields = fields | {"tail": {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(part.info).items()}}
    for program in made:
        files |= program.files
    with scratch_folder(Path(tempfile.gettempdir()), "fedgate-export") as folder:
        staged = write_bundle(folder / "staged.fedgate", fields | {"programs": entries(made)}, files)
        for (plan, _, _), program in zip(made, staged.manifest.programs, strict=True):
            spare = contextlib.nullcontext() if program.role in TAIL_ROLES else left_out.unless_possible(program.file)
            with spare:
                report(console, program, plan.compare(staged, program))
        if left_out.files & files.keys():
            made = [program for program in made if program.entry["file"] not in left_out.files]
            files = {name: blob for name, blob in files.items() if name not in left_out.files}
            left_out.refuse_nothing([program for program in made if program.plan.role not in TAIL_ROLES])
            staged = write_bundle(
                folder / "staged.fedgate", fields | {"programs": entries(made)}, files, overwrite=True
            )
        remember(staged, staged.manifest.programs)  # they have just run here
        bad = [row for row in verify(staged) if row["status"] == "mismatch"]
        if bad:
            raise FedgateError(f"{bad[0]['file']} does not pass its own verification: {bad[0]['reason']}")
    return write_bundle(out, fields | {"programs": entries(made)}, files, overwrite=overwrite)


def entries(made):
    return [program.entry for program in made]


def make(plans, runtimes, console, left_out):
    """Lower programs to runtimes: `Made` ones, but for those that are left out."""
    made = []
    for runtime in runtimes:
        for plan in plans:
            if runtime in plan.runtimes:
                with left_out.unless_possible(plan.entry(runtime)["file"]):
                    made.append(make_one(plan, runtime, console))
    return made


def make_together(plans, runtimes, console, left_out):
    """The same of programs that need each other: a runtime that cannot have all of them has none.

    But for those of the kernel, beside which there are others.
    """
    made = []
    for runtime in runtimes:
        chosen = [plan for plan in plans if runtime in plan.runtimes]
        with left_out.unless_possible(next(p for p in chosen if p.role == "train").entry(runtime)["file"]):
            own = []
            for plan in chosen:
                if plan.kernel_layers:
                    own += make([plan], [runtime], console, left_out)
                else:
                    own.append(make_one(plan, runtime, console))
            made += own
    return made


def make_one(plan, runtime, console):
    with console.status(f"lowering {runtime} {plan.stem}"):
        return Made(plan, *plan.make(runtime))


def kernel_missing(runtimes, plans, console):
    """Build the kernel where a `skip` program will need it; why it cannot be, or None."""
    if not any(plan.role == "skip" and set(runtimes) & set(plan.runtimes) for plan in plans):
        return None
    with console.status("building the channel-skipping kernel"):
        reason = ensure()
    if reason:
        console.print(f"no skip programs: {reason}; masked runs everywhere", soft_wrap=True)
    return reason


def report(console, program, result):
    text = f"{program.file}: {program.bytes:,} bytes, equals eager to {result.max_error:.1e}"
    if result.decisions:
        text += f", {result.decisions:,} mask decisions, {result.close_calls} close calls"
    console.print(text, soft_wrap=True)
