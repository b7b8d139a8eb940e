"""A training program that computes something else than local training is refused."""

import copy
import dataclasses
import functools

import pytest
import torch
from small_networks import CLASSES, SHAPE, small_network
from tail_training import staged, trainable

from fedgate.device_runtime.engines import load_program
from fedgate.device_runtime.errors import FedgateError
from fedgate.export.check import compare_gated, compare_plain
from fedgate.export.check_training import compare_training
from fedgate.export.reference import EagerReference
from fedgate.export.train_step import TrainStep

STATISTICS = ((0.5,) * 3, (0.25,) * 3)
LEVELS = (0.4, 0.7)


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


@pytest.mark.parametrize("gate", ["paper", "fbs", "scale", "none"])
@pytest.mark.parametrize("which", ["head", "last-stage"])
def test_a_right_program_passes(gate, which):
    part = part_of(gate=gate, which=which)
    result = compare(part)
    assert result.runs == 3 * len(part.network.densities) and 0 < result.max_error < 1e-4
    assert (result.decisions > 0) == (which == "last-stage" and gate != "none")


@pytest.mark.parametrize("size,count", [(1, 8), (2, 1), (33, 64)])
def test_a_right_program_passes_with_batches_of_any_size(size, count):
    assert compare(part_of(batch_size=size), count=count).runs


PARAMETER = "two.0.conv.weight"


def gradient_scaled(step, values):
    """One parameter's gradient is a hundredth too large."""
    return with_change(values, step(values), PARAMETER, lambda d: 1.01 * d)


def gradient_entry_wrong(step, values):
    def change(d):
        d = d.clone()
        d.view(-1)[d.abs().argmax()] *= -1
        return d

    return with_change(values, step(values), "head.bias", change)


def with_change(values, found, name, change):
    """A step's results if what it adds to the momentum of one parameter were changed."""
    buffer = values["momentum/" + name] * values["momentum"]
    after = buffer + change(found["momentum/" + name] - buffer)
    return found | {"momentum/" + name: after, name: values[name] - values["lr"] * after}


def gradient_of_gate_missing(step, values):
    name = "one.0.gate.predictor.weight"
    return with_change(values, step(values), name, lambda d: values["weight_decay"] * values[name] * (d != 0))


def one_channel_more(step, values):
    step.forward.k["two.0"] = torch.tensor(step.network.gates["two.0"].k) + 1.0
    return step(values)


def momentum_forgotten(step, values):
    return step(values | {name: torch.zeros_like(v) for name, v in values.items() if name.startswith("momentum/")})


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


def loss_of_other_labels(step, values):
    return step(values) | {"loss": step(values | {"labels": values["labels"].roll(1)})["loss"]}


def loss_of_the_batch_before(step, values):
    found = step(values)
    before, step.before = getattr(step, "before", found["loss"]), found["loss"]
    return found | {"loss": before}


def trained_on_other_labels(step, values):
    return step(values | {"labels": values["labels"].roll(1)})


def padding_in_the_loss(step, values):
    return step(values | {"weights": torch.ones_like(values["weights"]) * values["weights"].amax()})


def padding_in_the_mean(step, values):
    """The loss is divided by the size of the batch."""
    return step(values | {"weights": values["weights"] / 2}) | {"loss": step(values)["loss"] * values["weights"].mean()}


def padding_opens_channels(step, values):
    """Padding is in no sum, but weight decay moves what it opens."""
    found, whole = step(values), step(values | {"weights": torch.ones_like(values["weights"])})
    wrong = (found[PARAMETER] == values[PARAMETER]) & (whole[PARAMETER] != values[PARAMETER])
    decayed = values[PARAMETER] * (1 - values["lr"] * values["weight_decay"])
    return found | {PARAMETER: torch.where(wrong, decayed, found[PARAMETER])}


def padding_opens_channels_of_the_trunk(step, values):
    step.open_channels = lambda opened, _, v: TrainStep.open_channels(step, opened, torch.ones_like(v["weights"]), v)
    return step(values)


def masks_of_the_trunk_ignored(step, values):
    return step(values | {"trunk/open": torch.ones_like(values["trunk/open"])})


def last_example_dropped(step, values):
    weights = values["weights"].clone()
    if weights.sum() > 1:
        weights[weights.nonzero()[-1]] = 0
    return step(values | {"weights": weights})


def masks_of_the_next_example(step, values):
    """Each example has the mask of another one: the sums over a batch are those of right masks."""
    return with_masks(step, values, lambda mask: mask.roll(1, 0))


def masks_of_the_next_example_in_company(step, values):
    """Right masks for each example alone, and right sums of the batch's masks, which are those of other examples."""
    rows = (values["weights"] > 0).nonzero()[:, 0]
    return with_masks(step, values, lambda mask: mask.index_copy(0, rows, mask[rows.roll(1)]))


def constant_masks(step, values):
    return with_masks(step, values, lambda mask: mask[:1].expand(mask.shape))


def with_masks(step, values, change):
    from fedgate.export import tail_forward

    right = tail_forward.open_channels
    tail_forward.open_channels = lambda g, k: change(right(g, k)) * (g > 0)
    try:
        return step(values)
    finally:
        tail_forward.open_channels = right


def level_ignored(step, values):
    return step(values | {"level": torch.zeros_like(values["level"])})


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


def strength_without_masks(step, values):
    return step(values) | {"strength": step(values)["strength"] * 1.001}


def one_more_right(step, values):
    return step(values) | {"correct": step(values)["correct"] + 1}


def opened_in_halves(step, values):
    return step(values) | {"opened": step(values)["opened"] * 0.5}


def not_finite(step, values):
    found = step(values)
    return found | {"head.bias": found["head.bias"] * torch.nan}


def losses_not_finite(step, values):
    return step(values) | {"loss": torch.full((1,), torch.nan)}


FAULTS = {
    gradient_scaled: f"'{PARAMETER}' differs",
    gradient_entry_wrong: "'head.bias' differs",
    gradient_of_gate_missing: "gate.predictor.weight' differs",
    one_channel_more: "channels open, and may have",
    momentum_forgotten: "step 1 .* differs",
    momentum_of_another_step: "step 0 .*'momentum/.* differs",
    closed_channels_move: "differs",
    decay_of_closed_channels: f"step of '{PARAMETER}' differs",
    momentum_of_closed_channels: f"'momentum/{PARAMETER}' differs",
    loss_of_other_labels: "'loss' differs",
    loss_of_the_batch_before: "'loss' differs",
    trained_on_other_labels: "differs|are right",
    padding_in_the_loss: "neither once nor never",
    padding_in_the_mean: "'loss' differs",
    padding_opens_channels: "differs",
    last_example_dropped: "than its examples do alone",
    masks_of_the_next_example: "should be",
    masks_of_the_next_example_in_company: "differs",
    constant_masks: "should be",
    level_ignored: "density 0.7, row .* should be",
    learning_rate_fixed: "step 1 .* differs",
    momentum_fixed: "step 1 .* differs",
    decay_fixed: "step 1 .* differs",
    clip_fixed: "differs",
    never_clipped: "differs",
    nothing_learnt: "step 0 .* differs",
    nesterov: "step 0 .* differs",
    norms_of_the_other_level_move: "differs",
    strength_without_masks: "'strength' differs",
    one_more_right: "are right, not",
    opened_in_halves: "neither once nor never",
    not_finite: "'head.bias' differs by inf",
    losses_not_finite: "'loss' differs by",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_is_found(fault):
    with pytest.raises(FedgateError, match=FAULTS[fault]) as caught:
        compare(part_of(), fault)
    assert "some.program does not compute what eager PyTorch computes" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fault", [padding_opens_channels_of_the_trunk, masks_of_the_trunk_ignored])
def test_a_fault_in_what_the_trunk_closed_is_found(fault):
    part = part_of("flatten", which="head")  # its linear layer reads the channels of a gated layer of the trunk
    assert compare(part).runs
    with pytest.raises(FedgateError, match="differs"):
        compare(part, fault)


def test_a_fault_of_the_last_level_and_step_alone_is_found():
    """Whatever was compared before, and however well."""

    def late(step, values):
        found = step(values)
        return with_change(values, found, PARAMETER, lambda d: 1.01 * d) if last(values) else found

    def last(values):
        return values["level"] == 1 and values["clip_norm"] == 0

    with pytest.raises(FedgateError, match=r"step 2 at density 0.7: .* differs"):
        compare(part_of(), late)


@functools.cache
def twins():
    """A part whose layer `two.0` has two channels, 6 and 7, with the same gate, at many levels: many decisions."""
    network = small_network("projection of 8", tuple(i / 8 for i in range(1, 8)))
    with torch.no_grad():
        for tensor in network.gates["two.0"].predictor.parameters():
            tensor[7] = tensor[6]
    return trainable(network, "last-stage")


def other_twins(step, values, level, most):
    """At the first step of a level, `most` of the examples that open the first one of the twins open the second one."""
    if values["level"] != level or values["clip_norm"] != 1:
        return step(values)
    examples, calls = (values["features"] != 7).flatten(1).any(1), []

    def swapped(mask):
        calls.append(mask)
        chosen = ((mask[:, 6] > mask[:, 7]) & examples).nonzero()[:most, 0]
        if len(calls) < 2:  # of `one.0`
            return mask
        mask = mask.clone()
        mask[chosen, 6], mask[chosen, 7] = 0.0, 1.0
        return mask

    return with_masks(step, values, swapped)


@pytest.mark.slow
def test_a_close_call_is_counted_and_voids_no_comparison():
    def one(step, values):
        return other_twins(step, values, level=1, most=1)

    result = compare(twins(), one)
    assert result.close_calls == 2 and result.runs >= 18 and result.max_error < 1e-4
    for fault in (gradient_scaled, momentum_forgotten):
        with pytest.raises(FedgateError, match="differs"):
            compare(twins(), lambda step, values, fault=fault: one(functools.partial(fault, step), values))


@pytest.mark.slow
def test_too_many_close_calls_are_refused():
    with pytest.raises(FedgateError, match="close calls in 2240 decisions"):
        compare(twins(), functools.partial(other_twins, level=5, most=10))


def test_what_compares_nothing_does_not_pass():
    part = part_of()
    with pytest.raises(FedgateError, match=r"some.program could not be compared .* no step at density 0.4"):
        compare(part, count=0)
    network = small_network("residual", LEVELS)
    with pytest.raises(FedgateError, match=r"could not be compared with eager PyTorch: no run"):
        compare_gated(Program(part), EagerReference(network), [], 2)
    with pytest.raises(FedgateError, match=r"could not be compared with eager PyTorch: no run"):
        compare_plain(Program(part), [], [])


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["litert", "executorch", "module"])
def test_a_fault_in_a_lowered_program_is_found(runtime, tmp_path):
    part = part_of()
    bundle, program = staged(part, runtime, tmp_path)

    def load():
        return load_program(bundle, program)

    result = compare_training(part, load, *examples(), STATISTICS)
    assert result.runs == 6 and result.max_error < 1e-4
    for name in ("one.0.norms.0.running_mean", "two.0.norms.1.running_var"):
        other = copy.deepcopy(part)
        with torch.no_grad():
            other.network.body.get_buffer(name).add_(0.02)
        with pytest.raises(FedgateError, match=rf"{program.file} does not compute what eager PyTorch computes"):
            compare_training(other, load, *examples(), STATISTICS)
