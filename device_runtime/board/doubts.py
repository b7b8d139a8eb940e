"""Reasons not to believe a measurement, from what the machine told before, while and after it ran."""

import os
from collections.abc import Sequence

from .cpus import Cluster, spell

SLOWER = 0.95  # of a CPU's highest clock
NEAR = 3.0  # degrees below a limit
EMULATORS = ("qemu", "tcg")


def doubts(
    clusters: Sequence[Cluster],
    before: dict,
    during: Sequence[dict],
    after: dict,
    limits: dict[str, float],
    cpus: Sequence[int] | None,
    threads: int,
) -> list[str]:
    """One line for each reason. cpus: those that the measurement was pinned to. limits: degrees by zone."""
    found = []
    if cpus is None and _differ(clusters):
        kinds = " and ".join(f"{spell(c.cpus)} ({c.core or 'unknown'})" for c in clusters)
        found.append(f"CPUs differ, {kinds}, and nothing was pinned: --cpus {spell(clusters[-1].cpus)}")
    count = len(cpus) if cpus is not None else _usable(clusters)
    if threads > count:
        found.append(f"{threads} threads shared {count} CPU{'s' if count != 1 else ''}")
    used = [c for c in clusters if set(c.cpus) & set(cpus)] if cpus else list(clusters[-1:])
    busy = list(during) or [after]
    for cluster in used:
        found += _clock(cluster, busy)
    found += _throttled(before, [*busy, after])
    found += _hot([*busy, after], limits)
    return found


def _usable(clusters: Sequence[Cluster]) -> int:
    """How many of the CPUs that are on this process may use."""
    online = sum(len(cluster.cpus) for cluster in clusters)
    return min(online, len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else online


def _differ(clusters: Sequence[Cluster]) -> bool:
    """Whether it matters where a thread runs: a few per cent between a chip's favoured and other cores do not."""
    if len({cluster.core for cluster in clusters}) > 1:
        return True
    speeds = [cluster.capacity or cluster.max_mhz or 1.0 for cluster in clusters]
    return len(speeds) > 1 and min(speeds) < 0.9 * max(speeds)


def _clock(cluster: Cluster, states: Sequence[dict]) -> list[str]:
    name = spell(cluster.cpus)
    clocks = [s["frequency_mhz"][name] for s in states if name in s["frequency_mhz"]]
    if cluster.max_mhz is None or not clocks or min(clocks) >= SLOWER * cluster.max_mhz:
        return []
    allowed = min(s["max_now_mhz"].get(name, cluster.max_mhz) for s in states)
    governor = states[-1]["governor"].get(name, "unknown")
    why = f"cpufreq allowed {allowed:.0f}" if allowed < SLOWER * cluster.max_mhz else f"governor {governor}"
    return [f"CPUs {name} ran at {min(clocks):.0f} of {cluster.max_mhz:.0f} MHz ({why})"]


def _throttled(before: dict, states: Sequence[dict]) -> list[str]:
    """Flags that were up at any moment, or that were raised since the start."""
    told = [s["throttled"] for s in states if s["throttled"]]
    if not told:
        return []
    now = {flag for flags in told for flag in flags["now"]}
    new = set(told[-1]["since_boot"]) - set((before["throttled"] or told[0])["since_boot"])
    flags = [
        flag for flag in dict.fromkeys(f for t in told for f in (*t["now"], *t["since_boot"])) if flag in now | new
    ]
    return [f"the firmware reports while it ran: {', '.join(flags)}"] if flags else []


def _hot(states: Sequence[dict], limits: dict[str, float]) -> list[str]:
    found = []
    for zone, limit in limits.items():
        most = max((s["temperatures_c"].get(zone, 0.0) for s in states), default=0.0)
        if most > limit - NEAR:
            found.append(f"{zone} reached {most:.0f} degrees, and the machine slows down from {limit:.0f}")
    return found


def emulated(cpuinfo: str, architecture: str) -> bool:
    """Whether this CPU is made of software: it says so, or /proc/cpuinfo tells of another kind than we run on."""
    text = cpuinfo.lower()
    arm = architecture in ("aarch64", "arm64") or architecture.startswith("armv")
    names = [line for line in text.splitlines() if line.startswith(("model name", "hardware"))]
    return any(word in line for line in names for word in EMULATORS) or (arm and "vendor_id" in text)
