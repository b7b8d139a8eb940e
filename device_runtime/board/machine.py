"""What this machine is, and how busy others keep it: a latency means nothing without it."""

import os
import platform
import resource
import sys
import time
from pathlib import Path

from ..engines import available
from .cpus import clusters
from .doubts import emulated
from .host import Host


def machine_info(host: Host | None = None) -> dict:
    """CPU, cores, clusters and versions as JSON; None where the system does not tell. `board.state` is what changes."""
    host = host or Host()
    info = {
        "cpu": cpu_name(host),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "clusters": [cluster.to_json() for cluster in clusters(host)],
        "emulated": emulated(host.text("proc/cpuinfo") or "", platform.machine()),
        "architecture": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }
    return info | {runtime: found.version for runtime, found in available().items() if found.version}


def cpu_name(host: Host | None = None) -> str:
    """The board's name where there is one (a Raspberry Pi), else the CPU's."""
    host = host or Host()
    board = host.text("proc/device-tree/model") or host.text("sys/devices/soc0/machine")
    if board:
        return board
    for line in (host.text("proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip().lower() in ("model name", "hardware"):
            return value.strip()
    return platform.processor() or platform.machine()


class OtherLoad:
    """How many cores other processes kept busy between its making and `cores()`."""

    def __init__(self):
        self._start = self._now()

    def cores(self) -> float | None:
        """Mean number of busy cores that were not ours; None where /proc/stat is missing."""
        end = self._now()
        if self._start is None or end is None:
            return None
        seconds, busy, own = (after - before for before, after in zip(self._start, end, strict=True))
        return max(0.0, (busy - own) / seconds) if seconds > 0 else None

    @staticmethod
    def _now() -> tuple[float, float, float] | None:
        line = _first_line("/proc/stat").split()
        if line[:1] != ["cpu"]:
            return None
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, line[1:9])
        busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
        return time.monotonic(), busy, time.process_time()


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace").partition("\n")[0]
    except OSError:
        return ""


def peak_rss_mb() -> float:
    """Peak resident memory of this process in MB (10^6 bytes).

    Not getrusage where it can be avoided: on Linux its maximum survives exec, so a child of a large process reports
    its parent's size.
    """
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
