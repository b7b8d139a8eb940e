"""One program run without a pause: how its latency follows the machine's temperature and clock.

A board that computes gets warm, and slows down when it gets too warm. The first second tells what a request costs that
comes alone; the last ones what a stream of them costs.
"""

import math
import time
from collections.abc import Callable, Sequence

import numpy as np

from ..engines import Model

WINDOW = 1.0  # seconds
COOLED = 2.0  # degrees above the first temperature
LONGEST_PAUSE = 60.0  # seconds


def sustain(
    model: Model,
    image: np.ndarray,
    level: int,
    seconds: float,
    look: Callable[[], dict],
    window: float = WINDOW,
) -> list[dict]:
    """Run a model on one image for `seconds`; a row for each window: second, runs, p50_ms, and what `look` told."""
    model.prepare(image, level)
    model.invoke()
    clock, rows = time.perf_counter, []
    for number in range(max(1, math.ceil(seconds / window))):
        times = []
        end = clock() + window
        while not times or clock() < end:
            start = clock()
            model.invoke()
            times.append(clock() - start)
        p50 = float(np.median(times)) * 1e3
        rows.append({"second": number * window, "runs": len(times), "busy_s": sum(times), "p50_ms": p50, **look()})
    return rows


def summarise(rows: Sequence[dict]) -> dict:
    """The first window against the median of the last quarter, and millijoules an inference by source of power."""
    last = rows[-max(1, len(rows) // 4) :]
    hot = float(np.median([row["p50_ms"] for row in last]))
    seconds_each = sum(row["busy_s"] for row in rows) / sum(row["runs"] for row in rows)
    sources = dict.fromkeys(source for row in rows for source in row["power_w"])
    watts = {
        source: np.mean([row["power_w"][source] for row in rows if source in row["power_w"]]) for source in sources
    }
    return {
        "cold_ms": rows[0]["p50_ms"],
        "hot_ms": hot,
        "slowdown": hot / rows[0]["p50_ms"],
        "energy_mj": {source: float(value * seconds_each * 1e3) for source, value in watts.items()},
    }


def sustain_each(
    runs: Sequence[tuple[Model, int]], image: np.ndarray, seconds: float, look: Callable[[], dict]
) -> list[dict]:
    """`sustain` and its summary for one model at its level after the other, each begun when the board is cool again."""
    first, entries = look()["temperature_c"], []
    for model, level in runs:
        waited = cool_down(lambda: look()["temperature_c"], first)
        rows = sustain(model, image, level, seconds, look)
        names = {"program": model.program.file, "runtime": model.program.runtime, "role": model.program.role}
        entries.append({**names, "seconds": seconds, "cooled_s": waited, **summarise(rows), "windows": rows})
    return entries


def cool_down(temperature: Callable[[], float | None], first: float | None, longest: float = LONGEST_PAUSE) -> float:
    """Wait until the machine is nearly as cool as it was `first`, but not for ever; the seconds that it took."""
    start = time.monotonic()
    while first is not None and time.monotonic() - start < longest:
        now = temperature()
        if now is None or now <= first + COOLED:
            break
        time.sleep(min(1.0, longest))
    return time.monotonic() - start
