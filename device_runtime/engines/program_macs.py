"""MACs of a program: those that its masks ask for, and those that it computes, which stock operators make more."""

import numpy as np

from ..formats import macs
from ..formats.manifest import Manifest, Program


def executed_macs(manifest: Manifest, program: Program, level: int, open: np.ndarray | None) -> float:
    """MACs an inference of this program computes: stock operators compute every channel, whatever the masks say."""
    if not program.takes_level:
        return asked_macs(manifest, program, level, open)
    return kernel_macs(manifest, program, open) + stock_macs(manifest, program)


def kernel_macs(manifest: Manifest, program: Program, open: np.ndarray) -> float:
    """MACs of the layers that the kernel computes, under masks (N, sum of C_out): the mean over N."""
    asked = macs.executed(manifest.layers, open)
    return float(sum(np.mean(asked[name]) for name in program.kernel_layers))


def stock_macs(manifest: Manifest, program: Program) -> float:
    """MACs of the layers of a program with masks that stock operators compute."""
    everything = macs.executed(manifest.layers, np.ones((1, macs.mask_width(manifest.layers)), np.uint8))
    return float(sum(count[0] for name, count in everything.items() if name not in program.kernel_layers))


def asked_macs(manifest: Manifest, program: Program, level: int, open: np.ndarray | None) -> float:
    """MACs that the method asks for: from the masks (N, sum of C_out; their mean), else nominal, else dense."""
    if open is not None:
        return float(np.mean(macs.total(macs.executed(manifest.layers, open))))
    if program.role == "static":
        return macs.total(macs.nominal(manifest.layers, manifest.densities[level]))
    return macs.total(macs.dense(manifest.layers))
