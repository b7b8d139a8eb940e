"""The check of training programs: right ones pass, close calls are counted, and a lowered one's fault is found."""

import copy
import functools

import pytest
import torch
from small_networks import small_network
from tail_training import staged, trainable
from wrong_steps import (
    LEVELS,
    STATISTICS,
    Program,
    compare,
    examples,
    gradient_scaled,
    momentum_forgotten,
    part_of,
    with_masks,
)

from fedgate.device_runtime.engines import load_program
from fedgate.device_runtime.errors import FedgateError
from fedgate.export.check import compare_gated, compare_plain
from fedgate.export.check_training import compare_training
from fedgate.export.reference import EagerReference


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
