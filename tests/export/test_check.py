"""A program that computes something else is refused, and then no bundle is written."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from lowered import load, lowered, plan
from small_networks import exact_network, integer_images, random_images, small_network

from fedgate.cli import main
from fedgate.device_runtime.engines import Prediction
from fedgate.device_runtime.errors import FedgateError
from fedgate.export import pipeline
from fedgate.export.check import compare_gated, compare_plain, count_close_calls
from fedgate.export.eval_networks import dense_network, masked_network, static_network
from fedgate.export.modules import MaskedUnit
from fedgate.export.reference import EagerReference, fixed_masks

LEVELS = (0.3, 0.6)
IMAGES = random_images(16).numpy()


class Eager:
    """An eval network of eager PyTorch as a `Model`."""

    def __init__(self, network, program):
        self.network, self.program = network, program

    @torch.no_grad()
    def run(self, image, level):
        if not self.program.takes_level:
            return Prediction(self.network(torch.from_numpy(image)).numpy(), None, 0.0, self.program, level)
        outputs = self.network(torch.from_numpy(image), torch.tensor([level], dtype=torch.int32))
        return Prediction(*(output.numpy() for output in outputs), 0.0, self.program, level)


@dataclasses.dataclass(frozen=True)
class Named:
    file: str = "some.program"
    level: int | None = None
    takes_level: bool = True
    tolerance: float = 1e-4


def masked_units(masked):
    return [module for module in masked.modules() if isinstance(module, MaskedUnit)]


def other_predictor(masked):
    masked_units(masked)[1].predictor.weight.neg_()


def one_channel_more(masked):
    masked_units(masked)[0].k += 1


def one_channel_less(masked):
    masked_units(masked)[2].k[0] -= 1


def swapped_norms(masked):
    """The norms of one unit's two levels in each other's place."""
    unit = masked_units(masked)[1]
    unit.affine.copy_(unit.affine.flip(0))


def other_weights(masked):
    masked_units(masked)[2].conv.weight[3].mul_(1.01)


def other_head(masked):
    masked.head.bias[0] += 0.01 * masked.head.bias.abs().max()


def swapped_masks(masked):
    """The right result, and the masks of two layers told in the wrong order."""
    joined = next(node for node in masked.graph.nodes if node.target is torch.cat)
    joined.args = (joined.args[0][::-1], 1)
    masked.recompile()


FAULTS = {
    other_predictor: "should be",
    one_channel_more: "channels open, and may have",
    one_channel_less: "should be",
    swapped_norms: "logits differ",
    other_weights: "logits differ",
    other_head: "logits differ",
    swapped_masks: "one.0",
}


def faulty(network, fault):
    masked = masked_network(network)
    with torch.no_grad():
        fault(masked)
    return masked


def test_a_right_program_passes():
    network = small_network("residual", LEVELS)
    result = compare_gated(Eager(masked_network(network), Named()), EagerReference(network), IMAGES, 2)
    assert result.runs == 32 and result.decisions == 32 * 30 and result.close_calls == 0
    assert 0 < result.max_error < 1e-5


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_in_a_masked_program_is_found(fault):
    network = small_network("residual", LEVELS)
    program = Eager(faulty(network, fault), Named())
    with pytest.raises(FedgateError, match=FAULTS[fault]) as caught:
        compare_gated(program, EagerReference(network), IMAGES, 2)
    assert "some.program does not compute what eager PyTorch computes" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "runtime", [*(pytest.param(e, marks=pytest.mark.slow) for e in ("executorch", "litert")), "onnx"]
)
def test_a_fault_in_a_lowered_program_is_found(runtime, tmp_path):
    network = small_network("projection", LEVELS)
    reference = EagerReference(network)
    right = load(lowered(plan("masked", masked_network(network), network, 5), runtime, network, tmp_path))
    compare_gated(right, reference, IMAGES, 2)
    for name in ("gate.predictor.weight", "conv.weight"):
        other = copy.deepcopy(network)
        with torch.no_grad():
            other.units["one.0"].get_parameter(name)[1].neg_()
        with pytest.raises(FedgateError, match="does not compute"):
            compare_gated(right, EagerReference(other), IMAGES, 2)


@torch.no_grad()
def test_a_reversed_tie_rule_is_refused():
    """Each tie that falls the other way is a close call, and there are too many of them."""
    network, images = exact_network(LEVELS), integer_images().numpy()
    masked, reference = masked_network(network), EagerReference(network)
    assert compare_gated(Eager(masked, Named()), reference, images, 2).close_calls == 0
    for unit in masked_units(masked):
        unit.earlier.copy_(unit.earlier.T.clone())
    with pytest.raises(FedgateError, match="close calls in"):
        compare_gated(Eager(masked, Named()), reference, images, 2)


def test_masks_that_are_constant_are_refused():
    network = small_network("residual", LEVELS)

    class Constant(Eager):
        def run(self, image, level):
            return super().run(IMAGES[:1], level)

    with pytest.raises(FedgateError, match="should be"):
        compare_gated(Constant(masked_network(network), Named()), EagerReference(network), IMAGES, 2)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(value):
    network = small_network("residual", LEVELS)
    masked = masked_network(network)
    with torch.no_grad():
        masked.head.bias[0] = value
    with pytest.raises(FedgateError, match="logits differ by inf"):
        compare_gated(Eager(masked, Named()), EagerReference(network), IMAGES, 2)


def test_plain_programs_with_a_fault_are_refused():
    network = small_network("max pooling", LEVELS)
    reference = EagerReference(network)
    plain = Named(takes_level=False)
    expected = reference.dense(IMAGES)
    compare_plain(Eager(dense_network(network), plain), IMAGES, expected)
    with pytest.raises(FedgateError, match="logits differ"):
        compare_plain(Eager(dense_network(network, level=0), plain), IMAGES, expected)
    kept = {name: np.arange(gate.k[1]) for name, gate in network.gates.items()}
    expected = reference.run(IMAGES, 1, forced=fixed_masks(network.layers, kept))[0]
    compare_plain(Eager(static_network(network, 1, kept), plain), IMAGES, expected)
    shifted = {name: channels + 1 for name, channels in kept.items()}
    for level, channels in ((0, kept), (1, shifted)):
        with pytest.raises(FedgateError, match="logits differ"):
            compare_plain(Eager(static_network(network, level, channels), plain), IMAGES, expected)


def test_close_calls_are_judged_in_every_layer():
    """A close call early in the network does not excuse a wrong mask behind it."""
    network = small_network("residual", (0.5,))
    reference = EagerReference(network)
    _, masks, gates = reference.run(IMAGES[:1], 0)
    masks, gates, (one, _, three) = masks[0].astype(np.uint8), gates[0].copy(), reference.columns.values()

    def swap(part, distance):
        """Exchange a layer's last open and first closed channel, their gates a share of the largest apart."""
        order = np.argsort(-gates[part], kind="stable") + part.start
        last, first = order[masks[part].sum() - 1], order[masks[part].sum()]
        gates[first] = gates[last] - distance * gates[part].max()
        masks[[last, first]] = 0, 1

    swap(one, 2e-5)
    assert count_close_calls(Named(), masks, gates, network.layers, 0.5, "here") == 2
    swap(three, 1e-3)
    with pytest.raises(FedgateError, match=r"here: channel \d+ of 'three.0' should be"):
        count_close_calls(Named(), masks, gates, network.layers, 0.5, "here")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small run on digits with two densities."""
    out = tmp_path_factory.mktemp("check") / "run"
    options = ["--rounds", "1", "--clients", "2", "--local-epochs", "1", "--density", "0.5,1.0", "--quiet"]
    with pytest.raises(SystemExit) as done:
        main(["train", *options, "--out", str(out)])
    assert not done.value.code
    return out


def other_mask_in_export(networks, monkeypatch):
    monkeypatch.setattr(networks, "masked_network", lambda network: faulty(network, other_predictor))


def wrong_dense_in_export(networks, monkeypatch):
    monkeypatch.setattr(networks, "dense_network", lambda network: dense_network(network, level=0))


def wrong_static_in_export(networks, monkeypatch):
    monkeypatch.setattr(networks, "static_network", lambda network, level, kept: static_network(network, 0, kept))


@pytest.mark.parametrize("fault", [other_mask_in_export, wrong_dense_in_export, wrong_static_in_export])
def test_export_writes_nothing_when_a_program_is_wrong(fault, run, tmp_path, monkeypatch):
    from fedgate.export import programs

    fault(programs, monkeypatch)
    with pytest.raises(FedgateError, match=r"onnx-\S+ does not compute what eager PyTorch computes"):
        pipeline.export_run(run, tmp_path / "out.fedgate", ["onnx"])
    assert list(tmp_path.iterdir()) == []


def test_a_refused_export_leaves_an_older_bundle(run, tmp_path, monkeypatch):
    out = tmp_path / "out.fedgate"
    pipeline.export_run(run, out, ["onnx"])
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    from fedgate.export import programs

    other_mask_in_export(programs, monkeypatch)
    with pytest.raises(FedgateError, match="does not compute"):
        pipeline.export_run(run, out, ["onnx"], overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out.fedgate"]
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
