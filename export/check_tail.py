"""The comparison of a trainable bundle's programs with eager PyTorch: trunk, tail, and steps of local training."""

import copy

import numpy as np
import torch

from fedgate.device_runtime.ports import MOMENTUM, TRUNK_OPEN
from fedgate.device_runtime.verify import TOLERANCE, relative_error
from fedgate.train.augment import normalise
from fedgate.train.client import LocalPlan, train_locally
from fedgate.train.network import network_tensors

from .check import Comparison, compare_gated, compare_plain, mismatch
from .reference import EagerReference
from .train_step import trained_parameters

STEPS = 3
OPTIONS = {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4, "clip_norm": 1.0}


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


class WholeState:
    """A loaded program of role `train-module`, in the place of one of role `train`."""

    def __init__(self, loaded):
        self.loaded = loaded

    def call(self, values):
        return self.loaded.call(values) | self.loaded.parameters()


def stepping(loaded):
    """A loaded program that trains as one of role `train`, which returns the parameters."""
    return WholeState(loaded) if loaded.program.role == "train-module" else loaded


def compare_training(part, load, images, labels, statistics) -> Comparison:
    """Compare `STEPS` steps of a program that trains with local training as `train` does it, on a batch at every level.

    load: () -> the program with the parameters of the start, loaded.
    images: uint8 (n, C, H, W); labels: int64 (n,); statistics: (mean, std) of the data. The last row of the batch is
    padding. Where a gate's choice was so close that the program opened another channel, what follows is not compared.
    """
    result, network = Comparison(), part.network
    count = min(len(images), part.batch_size - 1) or 1
    images, labels = images[:count], labels[:count]
    for level in range(len(network.densities)):
        values, loaded = batch_of(part, images, labels, statistics, level), load()
        for _ in range(STEPS):
            found = stepping(loaded).call(values)
            values |= {name: found[name] for name in found if name in values}
        trained, eager = eager_steps(part, images, labels, statistics, level)
        result.runs += 1
        where = f"{STEPS} steps at density {network.densities[level]:g}"
        if "opened" in found:
            record = np.concatenate([eager.salience.opened[n][level] for n in network.gates if n in part.cut.layers])
            differ = np.abs(found["opened"] - record)
            result.decisions += int(count * differ.size)
            result.close_calls += int(differ.sum())
            if differ.any():
                if differ.sum() > 0.01 * count * differ.size:
                    raise mismatch(loaded.program, f"{where}: other channels were opened")
                continue
        if abs(float(found["loss"][0]) - eager.loss) > TOLERANCE * max(1.0, abs(eager.loss)):
            raise mismatch(loaded.program, f"{where}: the loss is {found['loss'][0]:g}, not {eager.loss:g}")
        for name in trained_parameters(network):
            error = relative_error(found[name], trained[name])
            result.max_error = max(result.max_error, error)
            if not error <= TOLERANCE:
                raise mismatch(loaded.program, f"{where}: '{name}' differs by {error:.2g} of its largest")
    return result


@torch.no_grad()
def batch_of(part, images, labels, statistics, level):
    """The inputs of a train program for a batch: features as eager PyTorch computes them."""
    network, size = part.network, part.batch_size
    part.trunk.level = level
    features = part.trunk(normalise(images, *statistics))
    opened = part.trunk.open().numpy() if part.trunk.gates else np.zeros((len(images), 0), bool)
    part.trunk.forget()
    fill = size - len(images)
    values = {name: p.numpy().copy() for name, p in trained_parameters(network).items()}
    values |= {MOMENTUM + name: np.zeros_like(value) for name, value in values.items()}
    values |= {name: np.array([value], np.float32) for name, value in OPTIONS.items()}
    values["features"] = np.pad(features.numpy(), [(0, fill)] + [(0, 0)] * (features.dim() - 1))
    values[TRUNK_OPEN] = np.pad(opened.astype(np.uint8), [(0, fill), (0, 0)])
    values["labels"] = np.pad(labels.numpy().astype(np.int32), (0, fill))
    values["weights"] = np.pad(np.ones(len(images), np.float32), (0, fill))
    values["level"] = np.array([level], np.int32)
    return values


def eager_steps(part, images, labels, statistics, level):
    """(tensors by name, `LocalResult`) of the same steps by `train_locally`."""
    part.network.forget()
    network = copy.deepcopy(part.network)
    plan = LocalPlan(
        densities=network.densities,
        epochs=STEPS,
        batch_size=len(images),
        seed=0,
        level=level,
        adaptive_gradient=part.held,
        sliced=False,
        **OPTIONS,
    )
    result = train_locally(network, images, labels, statistics, plan)
    return network_tensors(network), result
