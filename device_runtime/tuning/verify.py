"""Verifies a personal model: that its programs compute what their parameters say, and that all of them agree.

A bundle has reference outputs of its own parameters alone. The programs take parameters as inputs; so they are first
run with the bundle's, against the references, and then with the personal ones, against one another.
"""

from pathlib import Path

import numpy as np

from ..formats.bundle import Bundle
from ..verify import MOST_CLOSE_CALLS, TOLERANCE, program_row, relative_error, verify_program
from .model import model_role, open_tail, tuned_trunks
from .personal import load_personal


def verify_personal(bundle: Bundle, path: Path, runtime: str | None = None) -> list[dict]:
    """A row for each trunk that can run here, with the fields of `verify.verify`'s rows.

    Raises `UsageError` and `FedgateError` as `tuned_trunks` and `load_personal` do.
    """
    personal, own = load_personal(path, bundle), bundle.tail().tensors
    reference, level = bundle.reference(), personal.level
    rows, first = [], None
    for trunk in tuned_trunks(bundle, runtime):
        row = program_row(trunk, None) | {"role": model_role(trunk), "level": level}
        row |= verify_program(bundle, trunk, reference, lambda b, p: open_tail(b, p, own), level)
        if row["status"] == "ok":
            model = open_tail(bundle, trunk, personal.tensors)
            results = [model.run(image[None], level) for image in reference.image]
            first = first or results
            row |= agreement(results, first)
        rows.append(row)
    return rows


def agreement(results: list, first: list) -> dict:
    """Compare (logits, masks or None) of each input with those of the first program; the row's fields that change."""
    errors, differing, decisions = [], 0, 0
    for mine, other in zip(results, first, strict=True):
        wrong = 0 if mine.open is None else int(np.count_nonzero(mine.open != other.open))
        differing, decisions = differing + wrong, decisions + (0 if mine.open is None else mine.open.size)
        if not wrong:
            errors.append(relative_error(mine.logits[0], other.logits[0]))
    error = max(errors, default=float("inf"))
    if not error <= TOLERANCE or differing > MOST_CLOSE_CALLS * decisions:
        reason = f"with the personal parameters it differs from the first program: {error:.2g} of the largest logit"
        return {"status": "mismatch", "reason": f"{reason}, {differing} of {decisions} mask decisions"}
    return {"max_error": error, "close_calls": differing, "decisions": decisions}
