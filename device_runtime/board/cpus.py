"""CPUs and their clusters (big.LITTLE), from sysfs and /proc/cpuinfo; and pinning to some of them.

Files: Documentation/admin-guide/cputopology.rst, Documentation/admin-guide/pm/cpufreq.rst and
Documentation/ABI/testing/sysfs-devices-system-cpu (cpu_capacity) of the Linux kernel.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ..errors import UsageError
from .host import Host

SYSTEM = "sys/devices/system/cpu"
# (implementer, part) as /proc/cpuinfo has them -> the core, as util-linux' lscpu-arm.c names it
CORES = {
    (0x41, 0xD03): "Cortex-A53",
    (0x41, 0xD04): "Cortex-A35",
    (0x41, 0xD05): "Cortex-A55",
    (0x41, 0xD07): "Cortex-A57",
    (0x41, 0xD08): "Cortex-A72",
    (0x41, 0xD09): "Cortex-A73",
    (0x41, 0xD0A): "Cortex-A75",
    (0x41, 0xD0B): "Cortex-A76",
    (0x41, 0xD0C): "Neoverse-N1",
    (0x41, 0xD0D): "Cortex-A77",
    (0x41, 0xD40): "Neoverse-V1",
    (0x41, 0xD41): "Cortex-A78",
    (0x41, 0xD44): "Cortex-X1",
    (0x41, 0xD46): "Cortex-A510",
    (0x41, 0xD47): "Cortex-A710",
    (0x41, 0xD48): "Cortex-X2",
    (0x41, 0xD4D): "Cortex-A715",
    (0x41, 0xD4E): "Cortex-X3",
    (0x41, 0xD80): "Cortex-A520",
    (0x41, 0xD81): "Cortex-A720",
    (0x41, 0xD82): "Cortex-X4",
    (0x51, 0x001): "Oryon",
    (0x51, 0x800): "Falkor-V1/Kryo",
    (0x51, 0x801): "Kryo-V2",
    (0x51, 0x802): "Kryo-3XX-Gold",
    (0x51, 0x803): "Kryo-3XX-Silver",
    (0x51, 0x804): "Kryo-4XX-Gold",
    (0x51, 0x805): "Kryo-4XX-Silver",
}


class Cluster(NamedTuple):
    """CPUs of one kind. `capacity`: the kernel's measure of speed, 1024 for the fastest on the machine."""

    cpus: tuple[int, ...]
    core: str | None
    max_mhz: float | None
    capacity: int | None

    def to_json(self) -> dict:
        return {**self._asdict(), "cpus": spell(self.cpus)}


def online(host: Host) -> list[int]:
    """The numbers of the CPUs that are switched on."""
    with contextlib.suppress(ValueError):
        return _numbers(host.text(f"{SYSTEM}/online") or "")
    found = [int(facts["processor"]) for facts in _cpuinfo(host)]
    return found or list(range(os.cpu_count() or 1))


def clusters(host: Host) -> list[Cluster]:
    """The CPUs that are on, by kind, the slowest kind first."""
    parts = {int(facts["processor"]): _core(facts) for facts in _cpuinfo(host)}
    kinds: dict[tuple, list[int]] = {}
    for cpu in online(host):
        khz = host.number(f"{SYSTEM}/cpu{cpu}/cpufreq/cpuinfo_max_freq")
        kind = parts.get(cpu), None if khz is None else khz / 1e3, host.number(f"{SYSTEM}/cpu{cpu}/cpu_capacity")
        kinds.setdefault(kind, []).append(cpu)
    found = [Cluster(tuple(cpus), *kind) for kind, cpus in kinds.items()]
    return sorted(found, key=lambda cluster: (cluster.capacity or 0, cluster.max_mhz or 0, cluster.cpus))


def _cpuinfo(host: Host) -> list[dict[str, str]]:
    """The entries of /proc/cpuinfo that have a number, names in lower case."""
    entries = []
    for block in (host.text("proc/cpuinfo") or "").split("\n\n"):
        lines = (line.partition(":") for line in block.splitlines())
        entry = {key.strip().lower(): value.strip() for key, colon, value in lines if colon}
        if entry.get("processor", "").isdecimal():
            entries.append(entry)
    return entries


def _core(facts: dict[str, str]) -> str | None:
    try:
        found = int(facts["cpu implementer"], 16), int(facts["cpu part"], 16)
    except (KeyError, ValueError):
        return facts.get("model name")
    return CORES.get(found, f"part {found[1]:#x} of implementer {found[0]:#x}")


def spell(cpus: Iterable[int]) -> str:
    """Numbers as the kernel writes them: 0-3,6."""
    runs: list[list[int]] = []
    for cpu in sorted(cpus):
        if runs and cpu == runs[-1][1] + 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs)


def choose(text: str, host: Host, allowed: Iterable[int]) -> list[int]:
    """The CPUs that `0-3,6` names. Raises `UsageError` for one that is not there, or not in `allowed`."""
    try:
        wanted = _numbers(text)
    except ValueError:
        wanted = []
    if not wanted:
        raise UsageError(f"--cpus takes CPU numbers such as 0-3 or 0,2, not '{text}'")
    for known, what in ((online(host), "here are"), (allowed, "this process may use")):
        missing = sorted(set(wanted) - set(known))
        if missing:
            raise UsageError(f"there is no CPU {missing[0]} to use: {what} {spell(known)}")
    return wanted


def _numbers(text: str) -> list[int]:
    found = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        numbers = range(int(first), int(last if dash else first) + 1)
        if not numbers or len(numbers) > 4096:
            raise ValueError(text)
        found.update(numbers)
    return sorted(found)


@contextlib.contextmanager
def pinned(cpus: Iterable[int] | None) -> Iterator[None]:
    """Run on these CPUs alone, with all threads and processes that are started meanwhile; None: wherever."""
    if cpus is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
