"""Rows of programs: compared with eager PyTorch, timed in turn in a process of their own, and counted."""

import os

import numpy as np
from common import TimingProcess, bundle_of, summary
from latency.programs import CACHE, ROLES

from fedgate.device_runtime.bench.latency import noise
from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.kernels.build import KINDS, ensure, find

RUNTIMES = ("executorch", "litert")


def measured(of, lowered, runtime, threads, seconds, status):
    """The rows of a subject on a runtime with a number of threads: compared, timed and counted."""
    there = [entry for entry in lowered if entry.program is not None]
    rows = [made for entry in lowered if entry.reason for made in unmeasured(of, entry, runtime, threads, entry.reason)]
    bundle = bundle_of(CACHE, of.network)
    right = []
    try:
        with TimingProcess(bundle, [entry.program for entry in there], of.images, threads) as process:
            status.update(f"comparing {of.name} with eager PyTorch, {runtime}, {threads} thread(s)")
            for index, (entry, played) in enumerate(zip(there, process.outputs(), strict=True)):
                try:
                    if isinstance(played, FedgateError):
                        raise played
                    result = entry.variant.compare(played)
                except FedgateError as error:
                    rows += unmeasured(of, entry, runtime, threads, str(error))
                    continue
                right += [(index, position, played, result) for position in range(len(entry.variant.timed))]
            if not right:
                return rows
            status.update(f"timing {of.name}, {runtime}, {threads} thread(s)")
            levels = [there[index].variant.timed[position] for index, position, *_ in right]
            times, busy = process.times(
                [(entry[0], level) for entry, level in zip(right, levels, strict=True)], seconds
            )
    except FedgateError as error:  # the process itself is gone
        reasons = [(entry, entry.reason or str(error)) for entry in lowered]
        return [made for entry, reason in reasons for made in unmeasured(of, entry, runtime, threads, reason)]
    dense = next((i for i, (index, *_) in enumerate(right) if there[index].variant.role == "dense"), None)
    for found, level, (index, position, played, result) in zip(summary(times, dense), levels, right, strict=True):
        variant = there[index].variant
        executed, asked = variant.work(played, level)
        made = row(of, variant, runtime, threads, position) | found
        made |= {
            "program": there[index].program.file,
            "rounds": times.shape[1],
            "executed_macs": round(executed),
            "asked_macs": round(asked),
            "gmacs": executed / found["p50_ms"] / 1e6,
            "max_error": result.max_error,
            "close_calls": result.close_calls,
        }
        label = variant.role if made["density"] is None else f"{variant.role} {made['density']:g}"
        reasons = noise([made | {"program": f"{label}, {threads} thread(s)"}], busy)
        rows.append(made | {"noisy": bool(reasons), "noise": "; ".join(reasons) or None})
    return sorted(rows, key=lambda made: (ROLES.index(made["role"]), made["density"] or 0))


def unmeasured(of, entry, runtime, threads, reason):
    """The rows of a program that was not timed."""
    variant = entry.variant
    return [row(of, variant, runtime, threads, position, reason) for position in range(len(variant.timed))]


def row(of, variant, runtime, threads, position=0, reason=None):
    """A row of which nothing is measured yet; reason: why nothing will be."""
    return {
        "runtime": runtime,
        "model": of.model,
        "input": of.size,
        "density": variant.densities[position],
        "role": variant.role,
        "threads": threads,
        "data": of.data,
        "program": None,
        "rounds": 0,
        **dict.fromkeys(("p50_ms", "p90_ms", "ratio_to_dense", "ratio_low", "ratio_high", "ratio_to_best_dense")),
        **dict.fromkeys(("executed_macs", "asked_macs")),
        "dense_macs": of.dense_macs,
        **dict.fromkeys(("gmacs", "max_error", "close_calls")),
        "noisy": False,
        "noise": None,
        "reason": reason,
    } | ({} if variant.arm is None else {"arm": variant.arm})


def add_best_dense(rows):
    """Set ratio_to_best_dense in the rows of one subject: to the fastest dense program of all runtimes, by p50."""
    best = {}
    for made in rows:
        if made["role"] == "dense" and made["p50_ms"] is not None:
            best[made["threads"]] = min(made["p50_ms"], best.get(made["threads"], np.inf))
    for made in rows:
        if made["p50_ms"] is not None and made["threads"] in best:
            made["ratio_to_best_dense"] = made["p50_ms"] / best[made["threads"]]


def kernel():
    """Build the kernel where it is missing: (why there is none, or None; the file that this process and others use)."""
    reason = ensure()
    library = next(filter(None, map(find, KINDS)), None)
    if library:  # the processes that time look there first: also when the sources change meanwhile
        os.environ["FEDGATE_KERNELS"] = str(library.parent)
    return reason, library


def can_be_made(variant, runtime):
    """Whether the kernel has a layer of a `skip` program, and the runtime a quantiser for `dense-int8`."""
    return (variant.role != "skip" or bool(variant.kernel_layers)) and (
        variant.role != "dense-int8" or runtime in RUNTIMES
    )
