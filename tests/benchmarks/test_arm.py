"""Counting instructions on emulated ARM CPUs: the calibrated networks, and a whole run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from emulation import emulated

from fedgate.device_runtime.formats import macs
from fedgate.device_runtime.targets.emulated.emulator import COUNTS
from fedgate.train.network.build import build_network

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

from calibrate import calibrated, slim_network, synthetic_images  # noqa: E402


@pytest.mark.parametrize("model", ["resnet20", "vgg11"])
def test_calibrated_networks_have_unit_norms_and_masks_that_depend_on_the_input(model):
    torch.manual_seed(0)
    images = synthetic_images((3, 32, 32), 64)
    network = calibrated(build_network(model, "paper", (0.25, 0.5), 10, (3, 32, 32)), images)
    found = []
    for unit in network.units.values():
        unit.norms[0].register_forward_hook(lambda *call: found.append(call[2]))
    network.level = 0
    with torch.no_grad():
        network(images)
    assert len(found) == len(network.units)
    for y in found:
        # Evaluation uses the unbiased variance, training the biased one: few values a channel are left in VGG's end.
        assert y.mean((0, 2, 3)).abs().max() < 0.05 and (y.var((0, 2, 3)) - 1).abs().max() < 0.05
    for gate in network.gates.values():
        share = gate.open.float().mean(0)  # of the images that open a channel
        assert 0.24 < share.mean() < 0.26 and ((share == 0) | (share == 1)).float().mean() < 0.1


def test_a_slim_network_has_the_widths_of_static():
    network = build_network("resnet20", "paper", (0.5,), 10, (3, 32, 32))
    slim = {layer.name: (layer.in_channels, layer.out_channels) for layer in slim_network(network).layers}
    assert slim["stem.0"] == (3, 16)
    assert slim["stages.1.0.conv1"] == (16, 16) and slim["stages.1.0.conv2"] == (16, 32)
    assert slim["head"] == (64, 10)
    chain = slim_network(build_network("vgg11", "paper", (0.5,), 10, (3, 32, 32)))
    assert [layer.out_channels for layer in chain.layers] == [64, 64, 128, 128, 256, 256, 256, 256, 10]
    assert chain(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    """The rows of two runs of the script, by role."""
    runs = []
    for number in range(2):
        path = tmp_path_factory.mktemp("arm") / f"{number}.json"
        command = [sys.executable, BENCHMARKS / "arm.py", "--quick", "--model", "resnet20", "--json", path]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "synthetic" in done.stdout
        runs.append({row["role"]: row for row in json.loads(path.read_text())})
    return runs


@emulated
@pytest.mark.slow
def test_the_dense_program_executes_the_macs_of_its_layers(two_runs):
    dense = two_runs[0]["dense"]
    network = build_network("resnet20", "none", (1.0,), 10, (3, 32, 32))
    assert dense["executed_macs"] == macs.total(macs.dense(network.layers))
    assert dense["vector_fma"] * 4 == pytest.approx(dense["executed_macs"], rel=0.05)
    assert dense["fma_times_4_over_macs"] == pytest.approx(1.0, rel=0.05)
    assert dense["ratio_to_dense"] == 1.0 and dense["cpu"] == "cortex-a72"


@emulated
@pytest.mark.slow
def test_counts_repeat(two_runs):
    first, second = two_runs
    assert first.keys() == second.keys() >= {"dense", "static", "slim"}
    for role, row in first.items():
        assert {name: second[role][name] for name in COUNTS} == {name: row[name] for name in COUNTS}
    assert first["static"]["ratio_to_dense"] < 0.6 and first["slim"]["ratio_to_dense"] < 0.65
