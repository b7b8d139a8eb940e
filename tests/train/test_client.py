"""A client's local training: its batches, its randomness, its learning."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_cnn import PLAN
from torch import nn

from fedgate.train.data.augment import normalise
from fedgate.train.local.client import batches, client_seed, resolve_precision, teach, train_locally
from fedgate.train.network.build import build_network, gate_network, network_tensors


def trained(digits, plan=PLAN, densities=(0.5,), gate="paper", count=160):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = build_network("cnn", gate, densities, 10, (1, 8, 8)).to(memory_format=torch.channels_last)
    images, labels = digits.train_images[:count], digits.train_labels[:count]
    return network, train_locally(network, images, labels, (digits.mean, digits.std), plan)


def test_batches_are_even_and_cover_everything():
    for count, size in ((65, 64), (1, 32), (64, 64), (100, 7), (3, 1)):
        parts = batches(count, size, torch.Generator().manual_seed(0))
        assert sorted(torch.cat(parts).tolist()) == list(range(count))
        lengths = [len(part) for part in parts]
        assert max(lengths) <= size and max(lengths) - min(lengths) <= 1


def test_seeds_differ_by_run_round_and_client():
    seeds = {client_seed(s, r, c) for s in range(4) for r in range(10) for c in range(10)}
    assert len(seeds) == 400 and all(0 <= seed < 2**63 for seed in seeds)


def test_the_rate_decays_from_epoch_to_epoch(digits):
    """With plain SGD and one batch an epoch, the second step is as long as its rate says."""
    plain = dataclasses.replace(PLAN, densities=(1.0,), momentum=0.0, weight_decay=0.0, clip_norm=0.0, batch_size=160)
    one, two, decayed = (
        network_tensors(trained(digits, dataclasses.replace(plain, epochs=n, lr_decay=decay), (1.0,), "none")[0])
        for n, decay in ((1, 1.0), (2, 1.0), (2, 0.25))
    )
    for name in (name for name in one if name.endswith("weight")):
        whole = two[name] - one[name]
        np.testing.assert_allclose(decayed[name] - one[name], 0.25 * whole, atol=1e-6)
        assert np.abs(whole).max() > 1e-4


@pytest.mark.parametrize("gate", ["paper", "fbs"])
def test_local_training_learns(digits, gate):
    _, result = trained(digits, dataclasses.replace(PLAN, epochs=1), gate=gate)
    _, later = trained(digits, dataclasses.replace(PLAN, epochs=6), gate=gate)
    assert later.loss < 0.5 * result.loss and later.accuracy > 0.9
    assert result.steps == 5 and later.steps == 30


def test_local_training_is_a_function_of_its_seed(digits):
    plan = dataclasses.replace(PLAN, augment="crop", epochs=1)
    one, two = (network_tensors(trained(digits, plan)[0]) for _ in range(2))
    other = network_tensors(trained(digits, dataclasses.replace(plan, seed=8))[0])
    assert all(one[name].tobytes() == two[name].tobytes() for name in one)
    assert any((one[name] != other[name]).any() for name in one)


def test_the_record_is_of_the_last_epoch(digits):
    network, result = trained(digits)
    assert result.salience.samples.tolist() == [160]
    for name, gate in network.gates.items():
        assert result.salience.opened[name].sum() == 160 * gate.k[0]
        assert (result.salience.opened[name] <= 160).all()


def test_each_level_is_trained_with_its_own_density(digits):
    densities = (0.25, 0.5, 1.0)
    plan = dataclasses.replace(PLAN, densities=densities, epochs=4, batch_size=16)
    network, result = trained(digits, plan, densities)
    assert result.salience.samples.sum() == 160 and (result.salience.samples > 0).all()
    for name, gate in network.gates.items():
        for level, k in enumerate(gate.k):
            assert result.salience.opened[name][level].sum() <= k * result.salience.samples[level]
    norms = [norm.running_mean for norm in network.units["features.3"].norms]
    assert not torch.equal(norms[0], norms[1]) and not torch.equal(norms[1], norms[2])


def test_a_teacher_leaves_the_network_as_it_was(digits):
    network, _ = trained(digits, dataclasses.replace(PLAN, densities=(0.5, 1.0), epochs=1), (0.5, 1.0))
    x = normalise(digits.train_images[:16], digits.mean, digits.std)
    network.level = 0
    before = network_tensors(network)
    logits = teach(network, x, 1)
    after = network_tensors(network)
    assert all(before[name].tobytes() == after[name].tobytes() for name in before)
    assert network.level == 0 and logits.requires_grad is False
    network.level = 1
    assert torch.equal(logits, network(x))  # in training mode, so by the batch's own statistics


def test_deep_networks_with_several_levels_do_not_overflow_in_their_first_steps(digits):
    torch.manual_seed(0)
    network = build_network("resnet32", "paper", (0.25, 0.5, 0.75, 1.0), 10, (1, 32, 32))
    plan = dataclasses.replace(PLAN, densities=network.densities, epochs=1, batch_size=16, lr=0.02)
    images = digits.train_images[:64].repeat_interleave(4, 2).repeat_interleave(4, 3)
    result = train_locally(network, images, digits.train_labels[:64], (digits.mean, digits.std), plan)
    assert np.isfinite(result.loss) and all(np.isfinite(value).all() for value in network_tensors(network).values())


def test_clipping_bounds_a_step(digits):
    plan = dataclasses.replace(PLAN, epochs=1, batch_size=160, lr=1.0, momentum=0.0, weight_decay=0.0, clip_norm=0.01)
    torch.manual_seed(0)
    before = network_tensors(build_network("cnn", "paper", (0.5,), 10, (1, 8, 8)))
    after = network_tensors(trained(digits, plan)[0])
    moved = sum(((after[n] - before[n]) ** 2).sum() for n in before if "running" not in n)
    assert np.sqrt(moved) == pytest.approx(0.01, rel=1e-3)


def test_auto_precision_is_bf16_only_where_the_hardware_has_it(monkeypatch):
    cpu = torch.device("cpu")
    assert resolve_precision("bf16", cpu) == "bf16" and resolve_precision("fp32", cpu) == "fp32"
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    for flag, expected in ((True, "bf16"), (False, "fp32")):
        capabilities = {"architecture": "x86_64", "avx512_bf16": flag, "amx_bf16": False}
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=capabilities: found)
        assert resolve_precision("auto", cpu) == expected


class Small(nn.Module):
    """Norms on maps of 1x1 and on features, as a user may write them."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(1, 6, 8), nn.BatchNorm2d(6), nn.Linear(6, 10)
        self.features = nn.BatchNorm1d(6)
        self.register_buffer("mean", torch.full((6,), 0.5))
        self.register_buffer("var", torch.full((6,), 2.0))

    def forward(self, x):
        x = self.features(self.norm(self.conv(x)).relu().flatten(1))
        return self.head(F.batch_norm(x, self.mean, self.var, training=self.training))


@pytest.mark.parametrize("algorithm", ["fedavg", "fedprox"])
def test_a_single_image_is_normalised_by_the_running_statistics(digits, algorithm):
    torch.manual_seed(0)
    network = gate_network(Small(), (1, 8, 8), "none", (1.0,))
    before = network_tensors(network)
    plan = dataclasses.replace(PLAN, densities=(1.0,), batch_size=1, epochs=1, algorithm=algorithm, clip_norm=0.0)
    result = train_locally(network, digits.train_images[:1], digits.train_labels[:1], (digits.mean, digits.std), plan)
    after = network_tensors(network)
    statistics = {name for name in before if name.rpartition(".")[2] in ("running_mean", "running_var", "mean", "var")}
    assert len(statistics) == 6 and all((after[name] == before[name]).all() for name in statistics)
    assert np.isfinite(result.loss) and (after["conv.conv.weight"] != before["conv.conv.weight"]).any()
    train_locally(network, digits.train_images[:2], digits.train_labels[:2], (digits.mean, digits.std), plan)
    two = dataclasses.replace(plan, batch_size=2)
    train_locally(network, digits.train_images[:2], digits.train_labels[:2], (digits.mean, digits.std), two)
    assert all((network_tensors(network)[name] != before[name]).any() for name in statistics)
