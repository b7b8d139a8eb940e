"""What `bench` prints of the board, line by line."""

from collections.abc import Iterator


def board_lines(machine: dict, board: dict) -> Iterator[str]:
    """Clusters, and what changed between before and after."""
    for cluster in machine["clusters"]:
        facts = [cluster["core"] or "unknown", _unit(cluster["max_mhz"], "MHz"), _unit(cluster["capacity"], "capacity")]
        yield f"CPUs {cluster['cpus']}: {', '.join(filter(None, facts))}"
    before, after = board["before"], board["after"]
    if board["cpus"] is not None:
        yield f"pinned to CPUs {board['cpus']}"
    for name in after["frequency_mhz"]:
        clocks = f"{before['frequency_mhz'].get(name, 0):.0f} to {after['frequency_mhz'][name]:.0f} MHz"
        yield f"CPUs {name}: {clocks}, governor {after['governor'].get(name, 'unknown')}"
    if after["temperature_c"] is not None and before["temperature_c"] is not None:
        yield f"{before['temperature_c']:.1f} to {after['temperature_c']:.1f} degrees Celsius"
    if after["throttled"] is not None:
        now, since = (", ".join(after["throttled"][key]) or "none" for key in ("now", "since_boot"))
        yield f"throttling flags: now {now}; since boot {since}"
    for source, watts in after["power_w"].items():
        idle = before["power_w"].get(source)
        yield f"power ({source}): {watts:.2f} W" + ("" if idle is None else f", {idle:.2f} W before")


def sustained_lines(entry: dict) -> Iterator[str]:
    """One program's sustained run: what became of its latency, and why."""
    first, last = entry["windows"][0], entry["windows"][-1]
    change = f"{entry['cold_ms']:.3f} ms at first, {entry['hot_ms']:.3f} ms at last ({entry['slowdown'] - 1:+.1%})"
    yield f"{entry['program']} for {entry['seconds']:g} s: {change}"
    if first["temperature_c"] is not None and last["temperature_c"] is not None:
        yield f"  {first['temperature_c']:.1f} to {last['temperature_c']:.1f} degrees Celsius"
    for name, clock in last["frequency_mhz"].items():
        yield f"  CPUs {name}: {first['frequency_mhz'].get(name, 0):.0f} to {clock:.0f} MHz"
    for source, energy in entry["energy_mj"].items():
        yield f"  {energy:.2f} mJ an inference ({source}, with what the board takes when idle)"


def _unit(value: float | None, unit: str) -> str | None:
    return None if value is None else f"{value:.0f} {unit}" if unit == "MHz" else f"{unit} {value}"
