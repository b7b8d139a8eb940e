"""What a tail says of features: logits, and how good they are."""

from collections.abc import Iterable

import numpy as np

from ..engines import LoadedProgram


def tail_logits(program: LoadedProgram, parameters: dict, features: Iterable[np.ndarray], level: int) -> np.ndarray:
    """Logits float32 (k, classes) by a program of role `tail`. features: k times float32 (1, ...)."""
    values = parameters | {"level": np.array([level], np.int32)}
    found = []
    for one in features:
        values["features"] = one
        found.append(program.call(values)["logits"])
    return np.concatenate(found)


def scores(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Accuracy, and mean cross-entropy in float64, of logits (n, classes) against labels (n,)."""
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    own = shifted[np.arange(len(labels)), labels] - np.log(np.exp(shifted).sum(1))
    return {"accuracy": float((logits.argmax(1) == labels).mean()), "loss": float(-own.mean())}


def held_out(labels: np.ndarray, rows: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split `rows` into (training, validation), both sorted: of each class the same share is held out.

    A class of a single example stays in the training. labels: (n,), indexed by rows.
    """
    random = np.random.default_rng([seed, 0x5EED])
    validation = []
    for label in np.unique(labels[rows]):
        own = random.permutation(rows[labels[rows] == label])
        validation.append(own[: min(int(share * len(own) + 0.5), len(own) - 1)])
    held = np.sort(np.concatenate(validation))
    return np.setdiff1d(rows, held), held
