"""Latency of a bundle's programs on this machine: interleaved, paired with the dense program of the same runtime."""

import gc
import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..board.cpus import choose as choose_cpus
from ..board.cpus import pinned
from ..board.host import Host
from ..board.machine import OtherLoad, machine_info
from ..board.watch import Watch
from ..child import how_it_ended, python_command
from ..engines import Model, Prediction, why_not
from ..engines.guard import check
from ..engines.program_macs import asked_macs
from ..engines.select import choose_level, matching, runnable
from ..errors import FedgateError, UsageError
from ..formats import macs
from ..formats.bundle import Bundle
from ..formats.manifest import Program
from ..selection import ANY, Selection
from ..tuning.model import model_role, open_model, tuned_level, tuned_trunks
from ..tuning.personal import load_personal
from .stats import paired_ratio
from .sustained import sustain_each

BURST = 5  # timed runs of a program in its turn
LEAST_ROUNDS = 12


@dataclass(frozen=True)
class BenchOptions:
    """Which programs are measured, and how. What is None is not asked for: every CPU, and so on.

    rounds: how many, where not as many as fit into `seconds`. sustained: seconds that each program then runs alone.
    cpus: "0-3". personal: a file by `fedgate finetune`, whose model is measured, trunk and tail one behind the other.
    """

    chosen: Selection = ANY
    threads: int = 1
    rounds: int | None = None
    seconds: float = 10.0
    sustained: float | None = None
    cpus: str | None = None
    personal: Path | None = None

    def __post_init__(self):
        rounds, sustained = self.rounds, self.sustained
        counts = self.threads, 1 if rounds is None else rounds
        if min(counts) < 1 or self.seconds <= 0 or (sustained is not None and sustained <= 0):
            raise UsageError("threads and rounds must be at least 1, and seconds more than 0")


def bench(bundle: Bundle, options: BenchOptions | None = None, host: Host | None = None) -> dict:
    """Measure the programs of one level.

    Returns {"machine", "board", "rows", "skipped", "sustained", "warnings"}, rows flat; "board" is what
    `board.watch.Watch.facts` tells, and "sustained" has an entry for each program that ran alone.

    All programs share one process and take turns, so that drifts of the machine hit them alike. Each row has p50_ms
    and p90_ms of single runs, ratio_to_dense (median of the rounds' ratios to the dense program of the same runtime)
    with its 95 % interval, the MACs that the masks which occurred ask for and those that it executes (as the kernel
    counted them, where it runs), and load_ms, first_ms and peak_rss_mb from a fresh process. Raises `FedgateError` when
    nothing can run, `UsageError` for unknown names, levels, numbers and CPUs.
    """
    options, host = options or BenchOptions(), host or Host()
    chosen = None if options.cpus is None else choose_cpus(options.cpus, host, os.sched_getaffinity(0))
    machine = machine_info(host)  # before this process gets fewer CPUs
    with pinned(chosen):
        measured = _bench(bundle, options, chosen, host)
    if machine["emulated"]:
        measured["warnings"].append("this CPU is emulated: its times are not those of any real one")
    return {"machine": machine | {"others_busy_cores": measured.pop("others_busy_cores")}, **measured}


def _bench(bundle: Bundle, options: BenchOptions, cpus, host: Host) -> dict:
    personal, threads, chosen = options.personal, options.threads, options.chosen
    tuned = None if personal is None else load_personal(personal, bundle)
    if tuned is None:
        level = choose_level(bundle.manifest, chosen.level, chosen.density)
        wanted = with_baselines(bundle, matching(bundle, chosen, level))
    else:
        level = tuned_level(tuned, chosen.level, chosen.density, bundle)
        wanted = with_baselines(bundle, tuned_trunks(bundle, chosen.runtime, chosen.role))
    programs = runnable(wanted)
    check(bundle, programs)
    inputs = bundle.reference().image
    watch = Watch(host, cpus, threads)
    # before anything is loaded here, so that the children find an idle machine
    loads = [measure_loading(bundle, program, level, threads, personal) for program in programs]
    runs = [(open_model(bundle, program, tuned, threads), level) for program in programs]
    found = [predictions(model, inputs, level) for model, _ in runs]
    others = OtherLoad()
    times = interleave(runs, inputs, options.rounds, options.seconds, watch.look)
    busy = others.cores()
    board = watch.facts()
    rows = [_row(bundle, program, level, threads, times[i], found[i]) | loads[i] for i, program in enumerate(programs)]
    _add_ratios(programs, rows, times)
    skipped = [{"program": p.file, "reason": why_not(p)} for p in wanted if why_not(p)]
    warnings = [*noise(rows, busy), *board.pop("doubts")]
    alone = options.sustained
    sustained = [] if alone is None else sustain_each(runs, inputs[:1], alone, watch.look)
    return {
        "others_busy_cores": busy,
        "board": board,
        "rows": rows,
        "skipped": skipped,
        "sustained": sustained,
        "warnings": warnings,
    }


def with_baselines(bundle: Bundle, programs: Sequence[Program]) -> list[Program]:
    """The programs, and the dense ones of their runtimes: a ratio needs its baseline in the same run."""
    runtimes = {program.runtime for program in programs}
    baselines = [p for p in bundle.manifest.programs if p.is_baseline and p.runtime in runtimes]
    return [*(p for p in baselines if p not in programs), *programs]


def predictions(model: Model, inputs: np.ndarray, level: int) -> list[Prediction]:
    """What a model says of every input; it is warm then."""
    return [model.run(image[None], level) for image in inputs]


def interleave(
    runs: Sequence[tuple[Model, int | None]],
    inputs: np.ndarray,
    rounds: int | None,
    seconds: float,
    between: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """Time models, each at its level, in turn; float64 (runs, rounds, BURST), milliseconds.

    Each round takes the next input and starts with the next model. In its turn a model runs once untimed, which
    brings its weights back into the caches, then BURST times. `between` is called after each round. Lasts `rounds`, or
    else `seconds` and 12 rounds at least.
    """
    clock = time.perf_counter_ns
    end = time.monotonic() + seconds
    times = []
    gc.collect()
    gc.disable()
    try:
        while len(times) < (rounds or LEAST_ROUNDS) or (rounds is None and time.monotonic() < end):
            turn = len(times)
            image = inputs[turn % len(inputs)][None]
            round_times = np.empty((len(runs), BURST))
            for offset in range(len(runs)):
                which = (turn + offset) % len(runs)
                model, level = runs[which]
                model.prepare(image, level)
                invoke = model.invoke
                invoke()
                for run in range(BURST):
                    start = clock()
                    invoke()
                    round_times[which, run] = clock() - start
            times.append(round_times)
            between()
    finally:
        gc.enable()
    return np.stack(times, axis=1) / 1e6


def measure_loading(bundle: Bundle, program: Program, level: int, threads: int, personal: Path | None = None) -> dict:
    """load_ms, first_ms and peak_rss_mb of a program in a fresh Python process."""
    command = [*python_command("bench.load_probe"), str(bundle.path), program.file, str(level), str(threads)]
    command += [] if personal is None else [str(personal)]
    child = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=600)
    if child.returncode != 0:
        reason = (child.stderr.strip().splitlines() or [how_it_ended(child.returncode)])[-1]
        raise FedgateError(f"{program.file} does not load in a fresh process: {reason}")
    return json.loads(child.stdout.splitlines()[-1])


def _row(bundle, program, level, threads, times, found) -> dict:
    manifest, masks = bundle.manifest, [prediction.open for prediction in found]
    executed = float(np.mean([prediction.macs for prediction in found]))
    asked = asked_macs(manifest, None if masks[0] is None else np.concatenate(masks), executed)
    return {
        "runtime": program.runtime,
        "model": manifest.model,
        "gate": manifest.gate,
        "input": manifest.shape[-1],
        "role": model_role(program),
        "density": None if program.role == "dense" else manifest.densities[level],
        "threads": threads,
        "program": program.file,
        "rounds": times.shape[0],
        "p50_ms": float(np.percentile(times, 50)),
        "p90_ms": float(np.percentile(times, 90)),
        "ratio_to_dense": None,
        "ratio_low": None,
        "ratio_high": None,
        "asked_macs": round(asked),
        "executed_macs": round(executed),
        "dense_macs": macs.total(macs.dense(manifest.layers)),
    }


def _add_ratios(programs, rows, times) -> None:
    by_round = np.median(times, axis=2)  # (programs, rounds)
    dense = {program.runtime: i for i, program in enumerate(programs) if program.is_baseline}
    for i, program in enumerate(programs):
        if program.runtime in dense:
            ratio, low, high = paired_ratio(by_round[i], by_round[dense[program.runtime]])
            rows[i] |= {"ratio_to_dense": ratio, "ratio_low": low, "ratio_high": high}


def noise(rows: Sequence[dict], busy: float | None) -> list[str]:
    """Reasons, with numbers, not to believe a measurement; empty when there are none."""
    reasons = []
    if busy is not None and busy > 0.25:
        reasons.append(f"other processes kept {busy:.1f} cores busy")
    for row in rows:
        spread = row["p90_ms"] / row["p50_ms"]
        if spread > 1.5:
            reasons.append(f"{row['program']}: p90 is {spread:.1f} times p50")
        if row["ratio_to_dense"] is not None:
            width = (row["ratio_high"] - row["ratio_low"]) / row["ratio_to_dense"]
            if width > 0.1:
                reasons.append(f"{row['program']}: the ratio's 95 % interval is {width:.0%} wide")
    return reasons
