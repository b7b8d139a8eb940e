"""The comparison of an exported program with eager PyTorch: outputs, and masks by the rule of equal masks.

Masks must agree for every channel whose float64 gate value differs from the value that decides by more than 1e-4 of
the layer's largest. Disagreements closer than that are counted and must stay under 0.1 % of all decisions. Outputs
are compared with eager forced to the program's own masks, so that a close call hides nothing behind it.
"""

from dataclasses import dataclass

import numpy as np

from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.formats.macs import gated, mask_slices, open_count
from fedgate.device_runtime.verify import MOST_CLOSE_CALLS, compare_masks, relative_error

from .reference import EagerReference


class MismatchError(FedgateError):
    """A program computes something else than the network that it was made of."""


@dataclass
class Comparison:
    """runs: those compared to the end. max_error: the largest difference in an output over its largest value."""

    runs: int = 0
    max_error: float = 0.0
    decisions: int = 0
    close_calls: int = 0

    def finished(self, program):
        """This, of a program that was compared; raises `FedgateError` for too many close calls, and for no run."""
        if self.close_calls > MOST_CLOSE_CALLS * self.decisions:
            raise mismatch(program, f"{self.close_calls} close calls in {self.decisions} decisions")
        if not self.runs:
            raise not_compared(program, "no run")
        return self


def mismatch(program, text):
    return MismatchError(f"{program.file} does not compute what eager PyTorch computes: {text}")


def not_compared(program, what):
    return MismatchError(f"{program.file} could not be compared with eager PyTorch: {what} came to the end")


def compare_outputs(program, logits, expected, where, result):
    error = relative_error(logits, expected)
    result.runs += 1
    result.max_error = max(result.max_error, error)
    if not error <= program.tolerance:
        raise mismatch(program, f"{where}: logits differ by {error:.2g} of the largest")


def compare_plain(model, images, expected, level=None):
    """Compare a `Model` without masks: expected logits (n, classes). Raises `FedgateError` at a mismatch."""
    result = Comparison()
    for i, image in enumerate(images):
        found = model.run(image[None], model.program.level if level is None else level)
        compare_outputs(model.program, found.logits[0], expected[i], f"input {i}", result)
    return result.finished(model.program)


def compare_network(model, network, images):
    """Compare a `Model` with all levels of a network. Raises `FedgateError` at a mismatch."""
    reference, levels = EagerReference(network), len(network.densities)
    if network.gates:
        return compare_gated(model, reference, images, levels)
    result = Comparison()
    for level in range(levels):
        one = compare_plain(model, images, reference.run(images, level)[0], level)
        result = Comparison(result.runs + one.runs, max(result.max_error, one.max_error))
    return result


def compare_gated(model, reference, images, levels):
    """Compare a `Model` that chooses masks, at each level. Raises `FedgateError` at a mismatch.

    reference: an `EagerReference`; levels: the number of levels.
    """
    result = Comparison()
    layers, densities = reference.network.layers, reference.network.densities
    for level in range(levels if len(images) else 0):
        runs = [model.run(image[None], level) for image in images]
        masks = np.concatenate([found.open for found in runs])
        expected, _, gates = reference.run(images, level, forced=masks)
        for i, found in enumerate(runs):
            where = f"input {i} at density {densities[level]:g}"
            close = count_close_calls(model.program, masks[i], gates[i], layers, densities[level], where)
            result.close_calls += close
            result.decisions += masks.shape[1]
            compare_outputs(model.program, found.logits[0], expected[i], where, result)
    return result.finished(model.program)


def count_close_calls(program, masks, gates, layers, density, where):
    """Judge one input's masks layer by layer, each against the ranks of its own float64 gate values."""
    close, columns = 0, mask_slices(layers)
    for layer in gated(layers):
        mine, g = masks[columns[layer.name]], gates[columns[layer.name]]
        order = np.lexsort((np.arange(g.size), -g))
        rank = np.argsort(order)
        chosen = (rank < open_count(density, g.size)) & (g > 0) if layer.masked else np.ones(g.size)
        right = chosen.astype(np.uint8)
        count, fault = compare_masks(mine, right, g, [layer], density)
        if fault:
            raise mismatch(program, f"{where}: {fault}")
        close += count
    return close
