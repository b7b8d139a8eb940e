"""A training program in eager PyTorch that does a chosen thing wrong, and the check that compares it."""

import dataclasses
import functools

import pytest
import torch
from small_networks import CLASSES, SHAPE, small_network
from tail_training import trainable

from fedgate.device_runtime.errors import FedgateError
from fedgate.export.check_training import compare_training
from fedgate.export.train_step import TrainStep

STATISTICS = ((0.5,) * 3, (0.25,) * 3)
LEVELS = (0.4, 0.7)
PARAMETER = "two.0.conv.weight"


@dataclasses.dataclass(frozen=True)
class Named:
    file: str = "some.program"
    role: str = "train"
    takes_level: bool = True
    level: int | None = None
    tolerance: float = 1e-4


class Program:
    """The step as eager PyTorch computes it in float32, in the place of a loaded program; fault: what it does wrong.

    A fault takes the function of a step and its inputs, arrays by name, and returns what the program would.
    """

    program = Named()

    def __init__(self, part, fault=lambda step, values: step(values)):
        self.step, self.fault = TrainStep(part.network, part.cut, part.adaptive), fault

    def call(self, values):
        with torch.no_grad():
            found = self.fault(self.step, {name: torch.from_numpy(value) for name, value in values.items()})
        return {name: value.detach().numpy().copy() for name, value in found.items()}


@functools.cache
def part_of(name="projection of 8", gate="paper", which="last-stage", batch_size=16, adaptive=True):
    densities = LEVELS if gate in ("paper", "fbs") else (1.0,)
    return trainable(small_network(name, densities, gate), which, adaptive, batch_size)


@functools.cache
def examples(count=64):
    draw = torch.Generator().manual_seed(1)
    labels = torch.randint(CLASSES, (count,), generator=draw)
    images = torch.randint(256, (count, *SHAPE), generator=draw) * (0.3 + 0.14 * labels[:, None, None, None])
    return images.to(torch.uint8), labels


def compare(part, fault=lambda step, values: step(values), count=64):
    return compare_training(part, lambda: Program(part, fault), *examples(count), STATISTICS)


def assert_found(fault, reason):
    """The fault is told with the reason (a pattern), in one line."""
    with pytest.raises(FedgateError, match=reason) as caught:
        compare(part_of(), fault)
    assert "some.program does not compute what eager PyTorch computes" in str(caught.value)
    assert "\n" not in str(caught.value)


def with_change(values, found, name, change):
    """A step's results if what it adds to the momentum of one parameter were changed."""
    buffer = values["momentum/" + name] * values["momentum"]
    after = buffer + change(found["momentum/" + name] - buffer)
    return found | {"momentum/" + name: after, name: values[name] - values["lr"] * after}


def with_masks(step, values, change):
    from fedgate.export import tail_forward

    right = tail_forward.open_channels
    tail_forward.open_channels = lambda g, k: change(right(g, k)) * (g > 0)
    try:
        return step(values)
    finally:
        tail_forward.open_channels = right


def gradient_scaled(step, values):
    """One parameter's gradient is a hundredth too large."""
    return with_change(values, step(values), PARAMETER, lambda d: 1.01 * d)


def momentum_forgotten(step, values):
    return step(values | {name: torch.zeros_like(v) for name, v in values.items() if name.startswith("momentum/")})
