"""The kernel's libraries for another machine: its own, or ours if they load there."""

import platform
from pathlib import Path

from ..errors import FedgateError
from ..formats.bundle import Bundle
from ..formats.checks import parse_json
from ..kernels.build import KINDS, build, cache_folder, ensure, find, why_not_buildable
from .conversation import Session

CROSS = {"aarch64": "aarch64-linux-gnu"}


def provide(session: Session, bundle: Bundle, code: str, runtimes: list[str]) -> tuple[str | None, str | None]:
    """Bring libraries there that the bundle's skip programs need for these runtimes.

    Returns the folder there, None where nothing is needed or the device has its own, and the reason why skip programs
    cannot run, None where they can.
    """
    programs = [program for program in bundle.manifest.programs if program.needs_kernel]
    wanted = sorted({program.runtime for program in programs} & set(runtimes))
    if not wanted or not _lacking(session, code, {}, wanted):
        return None, None
    try:
        libraries = libraries_for(session.facts.machine)
        folder, _ = session.put("kernels", {path.name: path for path in libraries})
        lacking = _lacking(session, code, {"FEDGATE_KERNELS": folder}, wanted)
    except KernelError as error:
        return None, str(error)
    return folder, f"no kernel library for {', '.join(lacking)}" if lacking else None


class KernelError(FedgateError):
    """No library can be had, or it does not load there."""


def libraries_for(machine: str) -> list[Path]:
    """The libraries for a processor, built where that is possible. Raises `KernelError` with the reason."""
    if machine == platform.machine():
        reason = ensure()
        found = [path for path in map(find, KINDS) if path is not None]
        if not found:
            raise KernelError(reason or "the kernel is not built")
        return found
    if machine not in CROSS:
        raise KernelError(f"the kernel is not built for {machine} from here: fedgate kernels build on the device")
    target = CROSS[machine]
    found = sorted(cache_folder(target).glob("*.so"))
    if not found:
        reason = why_not_buildable(target)
        if reason:
            raise KernelError(reason)
        try:
            found = sorted(build(target).values())
        except (FedgateError, OSError) as error:
            raise KernelError(str(error)) from error
    return found


def _lacking(session: Session, code: str, environment: dict[str, str], wanted: list[str]) -> list[str]:
    """The runtimes among `wanted` for which the device finds no library. `kernels info` loads one to tell."""
    last = []
    status, output = session.run(["kernels", "info", "--json"], environment, code, last.append)
    if status != 0:
        raise KernelError("".join(last[-1:]).removeprefix("fedgate: ") or "kernels info failed there")
    found = parse_json(output, f"kernels info of {session.name}")
    libraries = found.get("libraries") if isinstance(found, dict) else None
    if not isinstance(libraries, dict):
        raise KernelError("kernels info gave no libraries there")
    return [runtime for runtime in wanted if not libraries.get(runtime)]
