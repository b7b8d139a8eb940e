"""Which of a bundle's programs run its trunk, its tail, and the tail's training here."""

import contextlib
from dataclasses import dataclass

import numpy as np

from ..engines import LoadedProgram, load_program, why_not
from ..engines.guard import check
from ..engines.program import runtime_errors
from ..engines.select import RUNTIME_ORDER
from ..errors import FedgateError, UsageError, choose
from ..formats.bundle import Bundle
from ..formats.manifest import RUNTIMES, Program

TRAINING = ("trunk", "tail", "train")
INFERENCE = ("trunk", "tail")


@dataclass(frozen=True)
class TailPrograms:
    """Loaded programs of one runtime."""

    trunk: LoadedProgram
    tail: LoadedProgram
    train: LoadedProgram

    @property
    def runtime(self) -> str:
        return self.tail.program.runtime


def batch_size(train: LoadedProgram) -> int:
    """How many examples a program of role `train` takes at once."""
    return next(port.shape[0] for port in train.program.inputs if port.name == "labels")


def tail_programs(bundle: Bundle, runtime: str | None = None, roles=TRAINING) -> list[dict[str, list[Program]]]:
    """For each runtime that can run them (or `runtime`), in order of preference, the programs by role.

    A trunk that skips channels stands before one that masks them. Raises `UsageError` for an unknown runtime or a
    bundle without such programs, `FedgateError` when none can run here.
    """
    if runtime is not None:
        choose("runtime", runtime, RUNTIMES)
    bundle.tail()  # says it where a bundle has nothing to train
    usable, reasons = [], {}
    for name in [runtime] if runtime else RUNTIME_ORDER:
        found = {role: [p for p in bundle.manifest.programs if (p.runtime, p.role) == (name, role)] for role in roles}
        here = {role: [p for p in programs if why_not(p) is None] for role, programs in found.items()}
        if all(here.values()):
            usable.append(here | {"trunk": sorted(here["trunk"], key=lambda program: not program.needs_kernel)})
        elif all(found.values()):
            reasons |= {why_not(p): None for programs in found.values() for p in programs if why_not(p)}
    if usable:
        return usable
    if not reasons:
        raise UsageError(f"{bundle.path} has no {' and '.join(roles)} programs for {runtime or 'any runtime'}")
    raise FedgateError(f"no {' and '.join(roles)} programs of {bundle.path} can run here: {'; '.join(reasons)}")


def load_tail_programs(bundle: Bundle, runtime: str | None = None, threads: int = 1) -> TailPrograms:
    """Load what trains; where the skipping trunk does not load, the masking one is taken."""
    found = tail_programs(bundle, runtime)[0]
    tail, train = found["tail"][0], found["train"][0]
    check(bundle, [tail, train])
    trunk = _load_trunk(bundle, found["trunk"], threads)
    return TailPrograms(trunk, load_program(bundle, tail, threads), load_program(bundle, train, threads))


def _load_trunk(bundle, programs, threads):
    for program in programs[:-1]:
        with contextlib.suppress(FedgateError):
            check(bundle, [program])
            return load_program(bundle, program, threads)
    check(bundle, programs[-1:])
    return load_program(bundle, programs[-1], threads)


def run_trunk(trunk: LoadedProgram, image: np.ndarray, level: int) -> tuple[np.ndarray, np.ndarray, int]:
    """One image float32 (1, C, H, W) -> (features (1, ...), masks of the trunk uint8 (1, channels), the kernel's MACs).

    Raises `FedgateError` for features that are not finite.
    """
    with runtime_errors(f"{trunk.program.runtime} failed to run {trunk.program.file}"):
        trunk.set_inputs({"image": image, "level": np.array([level], np.int32)})
        results, counted = trunk.counted()
    if not np.isfinite(results["features"]).all():
        raise FedgateError(f"{trunk.program.file} returned features that are not finite")
    return results["features"], results.get("open", np.zeros((1, 0), np.uint8)), counted
