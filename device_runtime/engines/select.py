"""Which programs of a bundle a command runs, and at which level."""

from collections.abc import Sequence

from ..errors import FedgateError, UsageError, choose
from ..formats.bundle import Bundle
from ..formats.manifest import RUNTIMES, Manifest, Program
from ..formats.roles import INFERENCE, INFERENCE_ROLES
from ..selection import Selection
from . import why_not

RUNTIME_ORDER = ("litert", "onnx", "executorch")  # for one prediction: the one that loads fastest


def choose_level(manifest: Manifest, level: int | None, density: float | None) -> int:
    """The level asked for by index or by density, or the bundle's default. Raises `UsageError`, listing the known."""
    if level is not None and density is not None:
        raise UsageError("give --level or --density, not both")
    known = ", ".join(f"{index}: {value:g}" for index, value in enumerate(manifest.densities))
    if density is not None:
        near = [i for i, value in enumerate(manifest.densities) if abs(value - density) < 1e-6]
        if not near:
            raise UsageError(f"the bundle has no density {density:g}; its levels are {known}")
        return near[0]
    level = manifest.default_level if level is None else level
    if not 0 <= level < len(manifest.densities):
        raise UsageError(f"the bundle has no level {level}; its levels are {known}")
    return level


def matching(bundle: Bundle, chosen: Selection, level: int | None = None) -> list[Program]:
    """The programs for inference that are chosen; `static` ones of `level` alone if it is given.

    Raises `UsageError` for an unknown name, or when nothing matches.
    """
    runtime, role = chosen.runtime, chosen.role
    if runtime is not None:
        choose("runtime", runtime, RUNTIMES)
    if role is not None:
        choose("role", role, INFERENCE_ROLES)
    found = [
        program
        for program in bundle.manifest.answering
        if runtime in (None, program.runtime)
        and role in (None, program.role)
        and (level is None or program.level in (None, level))
    ]
    if not found:
        has = sorted({f"{program.runtime} {program.role}" for program in bundle.manifest.programs})
        wanted = " ".join(filter(None, (runtime, role))) or "inference"
        raise UsageError(f"{bundle.path} has no {wanted} program; it has: {', '.join(has) or 'none'}")
    return found


def runnable(programs: Sequence[Program]) -> list[Program]:
    """Those that can run here. Raises `FedgateError` with the reasons when none can."""
    here = [program for program in programs if why_not(program) is None]
    if not here:
        reasons = dict.fromkeys(f"{why_not(program)}" for program in programs)
        raise FedgateError(f"no program of this bundle can run here: {'; '.join(reasons)}")
    return here


def best(programs: Sequence[Program]) -> Program:
    """The one to predict with."""
    return min(programs, key=lambda p: (INFERENCE[p.role], RUNTIME_ORDER.index(p.runtime)))
