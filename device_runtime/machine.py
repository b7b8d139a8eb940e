"""What this machine is, and how busy others keep it: a latency means nothing without it."""

import os
import platform
import time
from pathlib import Path

from .engines import available


def machine_info() -> dict:
    """CPU, cores, governor, temperature and versions as flat JSON; None where the system does not tell."""
    info = {
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "architecture": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "temperature_c": temperature(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }
    return info | {engine: found.version for engine, found in available().items() if found.version}


def cpu_name() -> str:
    """The board's name where there is one (a Raspberry Pi), else the CPU's."""
    board = _read("/proc/device-tree/model")
    if board:
        return board.strip("\0")
    for line in (_read("/proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip().lower() in ("model name", "hardware"):
            return value.strip()
    return platform.processor() or platform.machine()


def temperature() -> float | None:
    """The hottest thermal zone in degrees Celsius."""
    zones = (_read(str(path)) for path in Path("/sys/class/thermal").glob("thermal_zone*/temp"))
    found = [int(text) / 1000 for text in zones if text and text.lstrip("-").isdigit()]
    return max(found, default=None)


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
        line = (_read("/proc/stat") or "").partition("\n")[0].split()
        if line[:1] != ["cpu"]:
            return None
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, line[1:9])
        busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
        return time.monotonic(), busy, time.process_time()


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return None
