"""The comparison of a trainable bundle's trunk, and of its tail behind the trunk, with eager PyTorch."""

import numpy as np

from .check import Comparison, compare_gated, compare_plain
from .reference import EagerReference
from .train_step import trained_parameters


class Composed:
    """A loaded trunk program, and a loaded tail program behind it or none, in the place of one loaded program."""

    def __init__(self, part, trunk, tail=None):
        self.trunk, self.tail, self.program = trunk, tail, (tail or trunk).program
        self.parameters = {name: p.numpy() for name, p in trained_parameters(part.network).items()}

    def run(self, image, level):
        """A normalised image float32 (1, C, H, W) -> (features or logits, masks or None)."""
        values = {"image": image, "level": np.array([level or 0], np.int32)}
        found = self.trunk.call(values)
        if self.tail is None:
            return found["features"], found.get("open")
        after = self.tail.call(self.parameters | values | {"features": found["features"]})
        opened = [each["open"] for each in (found, after) if "open" in each]
        return after["logits"], np.concatenate(opened, 1) if opened else None


def compare_inference(part, images, trunk, tail=None) -> Comparison:
    """Compare a trunk, or a tail behind a trunk, on images at every level. Raises `FedgateError` at a mismatch."""
    network = part.trunk if tail is None else part.network
    program, reference = Composed(part, trunk, tail), EagerReference(network)
    if network.gates:
        return compare_gated(program, reference, images, len(network.densities))
    result = Comparison()
    for level in range(len(network.densities)):
        one = compare_plain(AtLevel(program, level), images, reference.run(images, level)[0])
        result = Comparison(result.runs + one.runs, max(result.max_error, one.max_error))
    return result


class AtLevel:
    """A program that runs at one level, whatever it is asked for."""

    def __init__(self, loaded, level):
        self.loaded, self.level, self.program = loaded, level, loaded.program

    def run(self, image, _):
        return self.loaded.run(image, self.level)
