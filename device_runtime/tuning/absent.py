"""Classes that a device has no images of: which parameters are theirs, and which images tell what is left of them.

Every image of another class pushes their logits down, which on few classes soon unlearns them (Li and Zhan, FedRS, KDD
2021). A step of the exported program has all classes in its softmax; what can be done outside of it is to leave alone
the rows of the last layer that make these logits, and to look at images of these classes that came with the bundle.
"""

from dataclasses import dataclass

import numpy as np

from ..formats.bundle import Bundle
from ..formats.manifest import Manifest
from ..images import normalise
from .evaluate import scores, tail_logits
from .programs import TailPrograms, run_trunk


def missing_classes(labels: np.ndarray, rows: np.ndarray, classes: int) -> np.ndarray:
    """The classes, sorted, that none of these rows has; labels: int64 (n,), indexed by rows."""
    return np.setdiff1d(np.arange(classes), labels[rows])


def logit_rows(manifest: Manifest, parameters: dict[str, np.ndarray], classes: np.ndarray) -> dict[str, np.ndarray]:
    """By name of each parameter of the last layer that has a row for each class: the rows of `classes`."""
    if not len(classes):
        return {}
    last, count = f"{manifest.layers[-1].name}.", len(manifest.labels)
    return {name: classes for name, value in parameters.items() if name.startswith(last) and value.shape[0] == count}


@dataclass(frozen=True)
class ReferenceSet:
    """Images of the bundle, as its trunk left them: features float32 (n, ...), labels int64 (n,).

    labelled: whether the labels are true, or the answers of the untuned network.
    """

    features: np.ndarray
    labels: np.ndarray
    labelled: bool

    @property
    def classes(self) -> int:
        """How many classes it has images of."""
        return len(np.unique(self.labels))

    def scores(self, programs: TailPrograms, parameters: dict, level: int) -> dict[str, float]:
        """As `evaluate.scores`, of the tail with these parameters."""
        return scores(tail_logits(programs.tail, parameters, self.features[:, None], level), self.labels)


def reference_set(
    bundle: Bundle, programs: TailPrograms, parameters: dict, classes: np.ndarray, level: int
) -> ReferenceSet | None:
    """The bundle's reference images of some classes; None where it has none. parameters: of the untuned tail."""
    reference = bundle.reference()
    labels, labelled = reference.labels, reference.labels is not None
    if labelled:
        chosen = np.flatnonzero(np.isin(labels, classes))
        images = (normalise(reference.labelled[i].transpose(1, 2, 0), bundle.manifest) for i in chosen)
    else:
        chosen, images = np.arange(len(reference.image)), (image[None] for image in reference.image)
    if not len(classes) or not len(chosen):
        return None
    features = np.concatenate([run_trunk(programs.trunk, image, level)[0] for image in images])
    if labelled:
        return ReferenceSet(features, labels[chosen], True)
    answers = tail_logits(programs.tail, parameters, features[:, None], level).argmax(1)
    kept = np.isin(answers, classes)
    return ReferenceSet(features[kept], answers[kept], False) if kept.any() else None
