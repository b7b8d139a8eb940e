"""MACs of a program: those that its masks ask for, and those that it computes whatever they say."""

import numpy as np

from ..formats import macs
from ..formats.manifest import Manifest, Program


def stock_macs(manifest: Manifest, program: Program) -> float:
    """MACs of an inference but for those of the kernel's layers, which the kernel counts: they depend on the masks.

    Stock operators compute every channel that a program has.
    """
    if program.role == "static":
        return macs.total(macs.nominal(manifest.layers, manifest.densities[program.level]))
    if not program.takes_level:
        return macs.total(macs.dense(manifest.layers))
    everything = macs.executed(manifest.layers, np.ones((1, macs.mask_width(manifest.layers)), np.uint8))
    return float(sum(count[0] for name, count in everything.items() if name not in program.kernel_layers))


def asked_macs(manifest: Manifest, open: np.ndarray | None, computed: float) -> float:
    """MACs that the method asks for: from the masks (N, sum of C_out; their mean), without any those computed."""
    return computed if open is None else float(np.mean(macs.total(macs.executed(manifest.layers, open))))
