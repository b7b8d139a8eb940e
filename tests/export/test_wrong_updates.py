"""A training program that moves parameters, momenta or statistics otherwise than local training is refused."""

import pytest
import torch
from wrong_steps import PARAMETER, assert_found, compare, gradient_scaled, momentum_forgotten, part_of, with_change

from fedgate.device_runtime.errors import FedgateError


def gradient_entry_wrong(step, values):
    def change(d):
        d = d.clone()
        d.view(-1)[d.abs().argmax()] *= -1
        return d

    return with_change(values, step(values), "head.bias", change)


def gradient_of_gate_missing(step, values):
    name = "one.0.gate.predictor.weight"
    return with_change(values, step(values), name, lambda d: values["weight_decay"] * values[name] * (d != 0))


def momentum_of_another_step(step, values):
    """The parameters move rightly, the momentum that is returned is the old one."""
    return step(values) | {name: v for name, v in values.items() if name.startswith("momentum/")}


def closed_channels_move(step, values):
    step.adaptive = False
    return step(values)


def decay_of_closed_channels(step, values):
    """Right, but that weight decay moves what else stays."""
    found = step(values)
    still = found[PARAMETER] == values[PARAMETER]
    decayed = values[PARAMETER] * (1 - values["lr"] * values["weight_decay"])
    return found | {PARAMETER: torch.where(still, decayed, found[PARAMETER])}


def momentum_of_closed_channels(step, values):
    found, name = step(values), "momentum/" + PARAMETER
    still = found[PARAMETER] == values[PARAMETER]
    return found | {name: torch.where(still, values["momentum"] * values[name], found[name])}


def learning_rate_fixed(step, values):
    return step(values | {"lr": torch.where(values["lr"] > 0, 0.05, 0.0)})


def momentum_fixed(step, values):
    return step(values | {"momentum": torch.full((1,), 0.9)})


def decay_fixed(step, values):
    return step(values | {"weight_decay": torch.full((1,), 5e-4)})


def clip_fixed(step, values):
    return step(values | {"clip_norm": torch.ones(1)})


def never_clipped(step, values):
    return step(values | {"clip_norm": torch.zeros(1)})


def nothing_learnt(step, values):
    return step(values | {"lr": torch.zeros(1)})


def nesterov(step, values):
    """The step looks ahead, the momenta are right."""
    found = step(values)
    for name in step.names:
        new, old = found["momentum/" + name], values["momentum/" + name]
        ahead = new - values["momentum"] * old + values["momentum"] * new
        found[name] = torch.where(found[name] == values[name], values[name], values[name] - values["lr"] * ahead)
    return found


def norms_of_the_other_level_move(step, values):
    found = step(values)
    names = [name for name in step.names if ".norms." in name]
    return found | {name: found[name] * (1 - values["lr"] * values["weight_decay"]) for name in names}


def not_finite(step, values):
    found = step(values)
    return found | {"head.bias": found["head.bias"] * torch.nan}


FAULTS = {
    gradient_scaled: f"'{PARAMETER}' differs",
    gradient_entry_wrong: "'head.bias' differs",
    gradient_of_gate_missing: "gate.predictor.weight' differs",
    momentum_forgotten: "step 1 .* differs",
    momentum_of_another_step: "step 0 .*'momentum/.* differs",
    closed_channels_move: "differs",
    decay_of_closed_channels: f"step of '{PARAMETER}' differs",
    momentum_of_closed_channels: f"'momentum/{PARAMETER}' differs",
    learning_rate_fixed: "step 1 .* differs",
    momentum_fixed: "step 1 .* differs",
    decay_fixed: "step 1 .* differs",
    clip_fixed: "differs",
    never_clipped: "differs",
    nothing_learnt: "step 0 .* differs",
    nesterov: "step 0 .* differs",
    norms_of_the_other_level_move: "differs",
    not_finite: "'head.bias' differs by inf",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_is_found(fault):
    assert_found(fault, FAULTS[fault])


def test_a_fault_of_the_last_level_and_step_alone_is_found():
    """Whatever was compared before, and however well."""

    def late(step, values):
        found = step(values)
        return with_change(values, found, PARAMETER, lambda d: 1.01 * d) if last(values) else found

    def last(values):
        return values["level"] == 1 and values["clip_norm"] == 0

    with pytest.raises(FedgateError, match=r"step 2 at density 0.7: .* differs"):
        compare(part_of(), late)
