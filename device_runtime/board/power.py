"""Power in watts, where a board measures it: a Pi 5's PMIC, INA sensors and their like, a battery that discharges.

Files: Documentation/hwmon/sysfs-interface.rst and Documentation/ABI/testing/sysfs-class-power of the Linux kernel.
"""

import re

from .host import Host

RAIL = re.compile(r"^\s*(\w+)_([AV])\s+(?:current|volt)\(\d+\)=([0-9.]+)[AV]\s*$", re.MULTILINE)


def watts(host: Host) -> dict[str, float]:
    """Watts by source: "pmic" (the rails that a Pi 5 senses, without what hangs on its 5 V), hwmon chips, "battery"."""
    found = _sensors(host) | _batteries(host)
    pmic = pmic_watts(host.firmware("pmic_read_adc") or "")
    return found if pmic is None else {"pmic": pmic, **found}


def pmic_watts(answer: str) -> float | None:
    """The sum over rails of current times voltage, from vcgencmd's pmic_read_adc; a rail needs both to count."""
    amperes, volts = {}, {}
    for rail, unit, value in RAIL.findall(answer):
        (amperes if unit == "A" else volts)[rail] = float(value)
    both = amperes.keys() & volts.keys()
    return sum(amperes[rail] * volts[rail] for rail in both) if both else None


def _sensors(host: Host) -> dict[str, float]:
    found = {}
    for folder in host.folders("sys/class/hwmon/hwmon*"):
        chip = host.text(folder / "name") or folder.name
        for index in range(1, 5):
            power = host.number(folder / f"power{index}_input")  # microwatts
            if power is None:
                milliamperes = host.number(folder / f"curr{index}_input")
                millivolts = host.number(folder / f"in{index}_input")
                power = None if None in (milliamperes, millivolts) else milliamperes * millivolts
            if power is not None:
                label = host.text(folder / f"in{index}_label") or host.text(folder / f"power{index}_label") or index
                found[f"{chip} {label}"] = power / 1e6
    return found


def _batteries(host: Host) -> dict[str, float]:
    """A battery that is being charged tells the charger's current, not the machine's."""
    found = {}
    for folder in host.folders("sys/class/power_supply/*"):
        if host.text(folder / "type") != "Battery" or host.text(folder / "status") != "Discharging":
            continue
        power = host.number(folder / "power_now")  # microwatts
        if power is None:
            microamperes, microvolts = host.number(folder / "current_now"), host.number(folder / "voltage_now")
            power = None if None in (microamperes, microvolts) else microamperes * microvolts / 1e6
        if power is not None:
            found["battery" if not found else folder.name] = abs(power) / 1e6  # the sign differs between drivers
    return found
