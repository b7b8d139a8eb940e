"""A training program that takes labels, padding, masks or levels for others is refused, and one that miscounts."""

import pytest
import torch
from wrong_steps import PARAMETER, assert_found, compare, part_of, with_masks

from fedgate.device_runtime.errors import FedgateError
from fedgate.export.train_step import TrainStep


def one_channel_more(step, values):
    step.forward.k["two.0"] = torch.tensor(step.network.gates["two.0"].k) + 1.0
    return step(values)


def loss_of_other_labels(step, values):
    return step(values) | {"loss": step(values | {"labels": values["labels"].roll(1)})["loss"]}


def loss_of_the_batch_before(step, values):
    found = step(values)
    before, step.before = getattr(step, "before", found["loss"]), found["loss"]
    return found | {"loss": before}


def losses_not_finite(step, values):
    return step(values) | {"loss": torch.full((1,), torch.nan)}


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


def level_ignored(step, values):
    return step(values | {"level": torch.zeros_like(values["level"])})


def strength_without_masks(step, values):
    return step(values) | {"strength": step(values)["strength"] * 1.001}


def one_more_right(step, values):
    return step(values) | {"correct": step(values)["correct"] + 1}


def opened_in_halves(step, values):
    return step(values) | {"opened": step(values)["opened"] * 0.5}


FAULTS = {
    one_channel_more: "channels open, and may have",
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
    strength_without_masks: "'strength' differs",
    one_more_right: "are right, not",
    opened_in_halves: "neither once nor never",
    losses_not_finite: "'loss' differs by",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_is_found(fault):
    assert_found(fault, FAULTS[fault])


@pytest.mark.parametrize("fault", [padding_opens_channels_of_the_trunk, masks_of_the_trunk_ignored])
def test_a_fault_in_what_the_trunk_closed_is_found(fault):
    part = part_of("flatten", which="head")  # its linear layer reads the channels of a gated layer of the trunk
    assert compare(part).runs
    with pytest.raises(FedgateError, match="differs"):
        compare(part, fault)
