"""Temperatures, the limits at which a machine slows down, and what a Raspberry Pi's firmware says of throttling.

Files: Documentation/driver-api/thermal/sysfs-api.rst of the Linux kernel. Firmware: "get_throttled" in Raspberry Pi's
documentation of vcgencmd, which also says that a Pi slows down from 80 degrees Celsius.
"""

from .host import Host

ZONES = "sys/class/thermal/thermal_zone*"
RASPBERRY_PI_LIMIT = 80.0
OF_THE_CPU = ("cpu", "soc", "pkg", "core", "big", "little", "cluster", "apss")
THROTTLED = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
SINCE_BOOT = 16  # the same bits, this much higher


def temperatures(host: Host) -> dict[str, float]:
    """Degrees Celsius by the zones' names."""
    return {name: value for name, value, _ in _zones(host)}


def limits(host: Host) -> dict[str, float]:
    """By the CPU's zones, the temperature from which the machine slows down or stops, of those that tell."""
    pi = "Raspberry Pi" in (host.text("proc/device-tree/model") or "")
    found = {}
    for name, _, folder in _zones(host):
        trips = [RASPBERRY_PI_LIMIT] if pi else []
        for path in host.folders(f"{folder}/trip_point_*_type"):
            # active ones start a fan
            value = host.number(str(path).removesuffix("_type") + "_temp")
            if host.text(path) in ("passive", "hot", "critical") and value is not None and value > 0:
                trips.append(value / 1e3)
        if trips and of_the_cpu(name):
            found[name] = min(trips)
    return found


def of_the_cpu(name: str) -> bool:
    return any(word in name.lower() for word in OF_THE_CPU)


def hottest(zones: dict[str, float]) -> float | None:
    """The hottest zone of the CPU, or of all where none is called so."""
    return max((value for name, value in zones.items() if of_the_cpu(name)), default=max(zones.values(), default=None))


def _zones(host: Host) -> list[tuple[str, float, str]]:
    """(name, degrees, folder below the root) of the zones whose values can be true."""
    found, seen = [], {}
    for folder in host.folders(ZONES):
        value = host.number(folder / "temp")
        # Millidegrees, says the kernel; zones of some phones' drivers are in degrees, or stand for a missing sensor.
        if value is None or not 1000 <= value <= 150_000:
            continue
        name = host.text(folder / "type") or folder.name
        seen[name] = seen.get(name, 0) + 1
        name = name if seen[name] == 1 else f"{name} {seen[name]}"
        found.append((name, value / 1e3, str(folder.relative_to(host.root))))
    return found


def throttling(host: Host) -> dict[str, list[str]] | None:
    """{"now": flags, "since_boot": flags} of a Raspberry Pi; None elsewhere."""
    answer = host.firmware("get_throttled")
    if answer is None:
        # the same word, where the firmware's tool is not installed
        answer = host.text("sys/devices/platform/soc/soc:firmware/get_throttled")
    try:
        return decode_throttled(int((answer or "").strip().partition("=")[2] or answer or "", 16))
    except ValueError:
        return None


def decode_throttled(bits: int) -> dict[str, list[str]]:
    """The word of get_throttled, bit by bit."""
    return {
        "now": [name for bit, name in THROTTLED.items() if bits >> bit & 1],
        "since_boot": [name for bit, name in THROTTLED.items() if bits >> bit + SINCE_BOOT & 1],
    }
