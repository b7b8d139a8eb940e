"""What a bundle's LiteRT programs execute on an emulated CPU: instructions and multiply-adds, not a latency."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from ...engines.program_macs import asked_macs, stock_macs
from ...engines.select import choose_level, matching
from ...errors import FedgateError, UsageError
from ...formats import macs
from ...formats.bundle import Bundle
from ...formats.manifest import Manifest, Program
from ...formats.records import Reference
from ...selection import NAMES, Selection
from ...verify import compare_masks, relative_error
from .emulator import COUNTS, Emulator

# the options of `bench` that mean something where nothing is timed; --rounds: how many inferences are counted
COUNTED = (*(f"--{name}" for name in NAMES), "--threads", "--rounds")


def count_programs(
    emulator: Emulator,
    bundle: Bundle,
    wanted: Selection,
    inferences: int | None,
    delegate: Path | str,
) -> dict:
    """Count each LiteRT program of one level on the bundle's reference inputs, batch 1, one thread.

    inferences: how many for each program; None: one an input. delegate: LiteRT's library of the kernel, built for
    aarch64, or the reason why there is none. Returns {"kind": "counts", "machine", "rows", "skipped", "warnings"}; rows
    are flat, with the means of `COUNTS` over the inferences, and ratio_to_dense of the instructions. Raises
    `FedgateError` for a program that does not run, or does not compute what its references say.
    """
    manifest = bundle.manifest
    level = choose_level(manifest, wanted.level, wanted.density)
    chosen = matching(bundle, replace(wanted, runtime="litert"), level)
    dense = [program for program in bundle.manifest.programs if program.runtime == "litert" and program.is_baseline]
    reference = bundle.reference()
    rows, skipped, baseline = [], [], None
    for program in dict.fromkeys([*dense, *chosen]):
        if program.needs_kernel and not isinstance(delegate, Path):
            skipped.append({"program": program.file, "reason": delegate})
            continue
        library = delegate if program.needs_kernel else None
        rows.append(_row(emulator, bundle, program, level, reference, inferences or len(reference.image), library))
        baseline = rows[-1]["instructions"] if program in dense else baseline
    if not rows:
        raise FedgateError(f"no program of this bundle can run there: {skipped[0]['reason']}")
    for row in rows:
        row["ratio_to_dense"] = row["instructions"] / baseline if baseline else None
    return {"kind": "counts", "machine": emulator.facts(), "rows": rows, "skipped": skipped, "warnings": []}


def _row(emulator, bundle, program, level, reference, inferences, delegate) -> dict:
    manifest = bundle.manifest
    indices = np.arange(inferences) % len(reference.image)
    counts, outputs = emulator.count(
        bundle.file(program.file), program_inputs(program, reference.image[indices], level), delegate
    )
    results = {port.name: outputs[f"output_{i}"] for i, port in enumerate(program.outputs)}
    masks = results["open"][:, 0] if program.takes_level else None
    compare(manifest, program, level, reference, indices, results["logits"][:, 0], masks)
    counted = float(np.mean(outputs["executed_macs"])) if program.needs_kernel else 0.0
    executed = counted + stock_macs(manifest, program)
    return {
        "cpu": emulator.cpu,
        "runtime": "litert",
        "model": manifest.model,
        "gate": manifest.gate,
        "input": manifest.shape[-1],
        "role": program.role,
        "density": None if program.role == "dense" else manifest.densities[level],
        "threads": 1,
        "program": program.file,
        "inferences": inferences,
        **{name: round(float(mean)) for name, mean in zip(COUNTS, counts.mean(0), strict=True)},
        "ratio_to_dense": None,
        "asked_macs": round(asked_macs(manifest, masks, executed)),
        "executed_macs": round(executed),
        "dense_macs": macs.total(macs.dense(manifest.layers)),
    }


def program_inputs(program: Program, images: np.ndarray, level: int) -> dict[str, np.ndarray]:
    """The inputs of inferences of one image each, by the signature's names; images: float32 (N, C, H, W)."""
    nhwc = program.inputs[0].layout == "NHWC"
    values = {
        "image": np.ascontiguousarray(images.transpose(0, 2, 3, 1) if nhwc else images)[:, None],
        "level": np.full((len(images), 1), level, np.int32),
    }
    return {f"args_{index}": values[port.name] for index, port in enumerate(program.inputs)}


def compare(
    manifest: Manifest,
    program: Program,
    level: int,
    reference: Reference,
    indices: np.ndarray,
    logits: np.ndarray,
    masks: np.ndarray | None,
) -> None:
    """Raise `FedgateError` unless logits (N, classes) and masks (N, sum of C_out) are those of the reference inputs.

    As in `verify`, what follows a close call is not compared.
    """
    for row, index in enumerate(indices):
        if masks is not None:
            expected = reference.open(level)[index], reference.gate(level)[index]
            close, fault = compare_masks(masks[row], *expected, manifest.layers, manifest.densities[level])
            if fault:
                raise FedgateError(f"{program.file}: input {index}: {fault}: see fedgate verify")
            if close:
                continue
        error = relative_error(logits[row], reference.logits(program.role, level)[index])
        if not error <= program.tolerance:
            raise FedgateError(
                f"{program.file}: input {index}: logits differ by {error:.2g} of the largest: see fedgate verify"
            )


def refuse(runtime: str | None, threads: int, given: dict) -> None:
    """Raise `UsageError` for what a count cannot do."""
    if runtime not in (None, "litert"):
        raise UsageError(f"an emulated target runs LiteRT programs, not {runtime}'s: --runtime litert")
    if threads != 1:
        raise UsageError("an emulated target counts what one thread executes: --threads 1")
    for flag in given:
        if flag not in COUNTED:
            raise UsageError(f"{flag} does not go with an emulated target: bench counts there, and times nothing")
