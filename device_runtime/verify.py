"""Runs a bundle's programs on its reference inputs and compares logits and masks with the references.

Masks may differ only where the choice was close: in float32 two implementations may order two nearly equal gates
differently. Such calls are counted, must be rare, and what follows one in the network is not compared, because it is
downstream of another choice.
"""

from collections.abc import Sequence

import numpy as np

from .engines import open_program, why_not
from .engines.guard import failures
from .engines.select import matching
from .errors import FedgateError
from .formats.bundle import Bundle
from .formats.macs import Layer, gated, mask_slices, open_count
from .formats.manifest import Program
from .formats.records import Reference
from .formats.roles import INFERENCE_ROLES
from .selection import Selection

TOLERANCE = 1e-4  # of gates that are as good as equal; and of the outputs of float32 programs
MOST_CLOSE_CALLS = 0.001


def verify(bundle: Bundle, runtime: str | None = None) -> list[dict]:
    """Verify every program whose runtime is installed (or those of `runtime`); one row a program.

    A row has file, runtime, role, level, status ("ok", "mismatch" or "skipped"), compared and runs (inputs x levels),
    max_error (relative to the largest logit), close_calls, decisions and reason. Raises `FedgateError` when no program
    can run here, `UsageError` for an unknown runtime.
    """
    rows = [program_row(program, why_not(program)) for program in matching(bundle, Selection(runtime))]
    if all(row["status"] == "skipped" for row in rows):
        reasons = dict.fromkeys(row["reason"] for row in rows)
        raise FedgateError(f"nothing to verify: no program can run here: {'; '.join(reasons)}")
    reference = bundle.reference()
    here = [row for row in rows if row["status"] != "skipped"]
    unsafe = failures(bundle, [bundle.manifest.named(row["file"]) for row in here])
    for row in here:
        if row["file"] in unsafe:
            row.update(status="mismatch", reason=unsafe[row["file"]])
        else:
            row.update(verify_program(bundle, bundle.manifest.named(row["file"]), reference))
    if runtime is None:
        rows += [
            program_row(program, "trains, and has no reference outputs")
            for program in bundle.manifest.programs
            if program.role not in INFERENCE_ROLES
        ]
    return rows


def program_row(program: Program, reason: str | None) -> dict:
    return {
        "file": program.file,
        "runtime": program.runtime,
        "role": program.role,
        "level": program.level,
        "status": "skipped" if reason else "ok",
        "runs": 0,
        "compared": 0,
        "max_error": None,
        "close_calls": 0,
        "decisions": 0,
        "reason": reason,
    }


def verify_program(
    bundle: Bundle, program: Program, reference: Reference, load=open_program, level: int | None = None
) -> dict:
    """Run one program on every reference input (and level), and compare; the row's fields from status on.

    load: (bundle, program) -> the `Model` that is run; level: at this one alone.
    """
    manifest = bundle.manifest
    if level is not None:
        levels = [level]
    else:
        levels = range(len(manifest.densities)) if program.takes_level else [program.level]
    counts = {"runs": 0, "compared": 0, "max_error": 0.0, "close_calls": 0, "decisions": 0}
    faults = []
    try:
        loaded = load(bundle, program)
        for level in levels:
            for index in range(len(reference.image)):
                found = loaded.run(reference.image[index : index + 1], level)
                counts["runs"] += 1
                where = f"input {index}" + ("" if level is None else f" at level {level}")
                if found.open is not None:
                    counts["decisions"] += found.open.size
                    close, fault = compare_masks(
                        found.open[0],
                        reference.open(level)[index],
                        reference.gate(level)[index],
                        manifest.layers,
                        manifest.densities[level],
                    )
                    counts["close_calls"] += close
                    if fault:
                        faults.append(f"{where}: {fault}")
                    if close or fault:
                        continue
                role = "dense" if manifest.gate == "none" else found.program.role
                error = relative_error(found.logits[0], reference.logits(role, found.level)[index])
                counts["compared"] += 1
                counts["max_error"] = max(counts["max_error"], error)
                if not error <= found.program.tolerance:
                    faults.append(f"{where}: logits differ by {error:.2g} of the largest")
    except FedgateError as error:
        faults.append(str(error))
    if not faults and counts["close_calls"] > MOST_CLOSE_CALLS * counts["decisions"]:
        faults.append(f"{counts['close_calls']} close calls in {counts['decisions']} mask decisions are too many")
    if not faults and counts["compared"] == 0:
        faults.append("no input could be compared to the end")
    return {**counts, "status": "mismatch" if faults else "ok", "reason": faults[0] if faults else None}


def relative_error(logits: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference over the largest expected logit; infinite where a value is not finite."""
    difference = np.abs(logits.astype(np.float64) - expected).max()
    scale = np.abs(expected).max() or 1.0
    return float(difference / scale) if np.isfinite(difference) else float("inf")


def compare_masks(
    open: np.ndarray, expected: np.ndarray, gate: np.ndarray, layers: Sequence[Layer], density: float
) -> tuple[int, str | None]:
    """Compare one input's masks, uint8 (sum of C_out,), with the expected ones, whose gate values are `gate`.

    Only the first layer that differs is judged. Returns the number of close calls in it and None, or 0 and what is
    wrong. A channel is a close call if its gate lies within 1e-4 of the layer's largest from the value that decided:
    the k-th largest for a channel that should be closed, the next one for a channel that should be open, or 0.
    """
    columns = mask_slices(layers)
    for layer in gated(layers):
        mine, right, g = (values[columns[layer.name]] for values in (open, expected, gate))
        if mine.max() > 1:
            return 0, f"masks of '{layer.name}' hold values other than 0 and 1"
        wrong = np.flatnonzero(mine != right)
        if len(wrong) == 0:
            continue
        k = open_count(density, layer.out_channels) if layer.masked else layer.out_channels
        if np.count_nonzero(mine) > k:
            return 0, f"'{layer.name}' has {np.count_nonzero(mine)} channels open, and may have {k}"
        ranked = np.sort(g.astype(np.float64))[::-1]
        close = TOLERANCE * ranked[0]
        for channel in wrong:
            rank = k if right[channel] else k - 1
            boundary = ranked[rank] if rank < len(ranked) else np.inf
            if abs(g[channel] - boundary) > close and g[channel] > close:
                should = "open" if right[channel] else "closed"
                return 0, f"channel {channel} of '{layer.name}' should be {should}"
        return len(wrong), None
    return 0, None
