"""Norm statistics by level: of all that a norm saw in the last epoch, and pooled over clients as over one set."""

import dataclasses

import numpy as np
import pytest
from small_cnn import PLAN, network_of
from strategy_references import SPEC, strategy

from fedgate.device_runtime.formats.update import Update
from fedgate.train.data.load import load_data
from fedgate.train.local.client import train_locally
from fedgate.train.network.build import network_tensors
from fedgate.train.strategies import ServerState, round_step

DENSITIES = (0.2, 0.5, 1.0)


def seen_by_norms(network):
    """A list that grows by (norm, what it sees as (values, channels), the channels open in that batch)."""
    seen = []
    for unit in network.units.values():
        for norm in unit.norms:

            def note(module, arguments, result, unit=unit):
                if network.training and module.momentum:  # a teacher's forward pass does not count
                    y = arguments[0].detach().permute(0, 2, 3, 1).reshape(-1, result.shape[1])
                    seen.append((module, unit, y.double().numpy()))

            norm.register_forward_hook(note)
    for unit in network.units.values():
        if unit.gate is not None:

            def mark(module, arguments, result, unit=unit):
                entry = next((i for i in reversed(range(len(seen))) if seen[i][1] is unit and len(seen[i]) == 3), None)
                if entry is not None:
                    seen[entry] = (*seen[entry], module.open.any(0).numpy())

            unit.gate.register_forward_hook(mark)
    return seen


@pytest.mark.parametrize("adaptive", [True, False])
def test_a_clients_statistics_are_those_of_its_last_epoch(adaptive):
    digits = load_data("digits")
    images, labels = digits.train_images[:96], digits.train_labels[:96]
    plan = dataclasses.replace(
        PLAN, epochs=2, batch_size=8, densities=DENSITIES, adaptive_gradient=adaptive, sliced=False
    )
    network = network_of(density=DENSITIES)
    start = network_tensors(network)
    seen = seen_by_norms(network)
    train_locally(network, images, labels, (digits.mean, digits.std), plan)
    last = seen[len(seen) // 2 :]  # two epochs, each batch with one norm of each of three convolutions
    for name, unit in network.units.items():
        for level, norm in enumerate(unit.norms):
            batches = [(each[2], each[3] if len(each) > 3 else None) for each in last if each[0] is norm]
            for c in range(norm.num_features):
                values = [y[:, c] for y, opened in batches if not adaptive or opened is None or opened[c]]
                prefix = f"{name}.norms.{level}"
                if values:
                    values = np.concatenate(values)
                    wanted = values.mean(), values.var(ddof=1)
                else:
                    wanted = start[f"{prefix}.running_mean"][c], start[f"{prefix}.running_var"][c]
                assert norm.running_mean[c].item() == pytest.approx(wanted[0], abs=1e-5)
                assert norm.running_var[c].item() == pytest.approx(wanted[1], abs=1e-5, rel=1e-5)
            assert norm.momentum == 0.1


def test_sliced_training_gathers_the_same():
    digits = load_data("digits")
    found = []
    for sliced in (True, False):
        network = network_of(density=DENSITIES)
        plan = dataclasses.replace(PLAN, epochs=1, batch_size=48, densities=DENSITIES, sliced=sliced, lr=0.01)
        train_locally(network, digits.train_images[:96], digits.train_labels[:96], (digits.mean, digits.std), plan)
        found.append({name: value for name, value in network_tensors(network).items() if "running" in name})
    assert all(np.allclose(found[0][name], found[1][name], atol=1e-4) for name in found[0])


def client_update(client, samples, values):
    channels = {"a": np.arange(4, dtype=np.uint16), "b": np.arange(6, dtype=np.uint16)}
    return Update("run", 0, "0" * 64, client, sum(samples), 1, samples, channels, values)


def test_the_server_pools_them_as_one_set_of_samples():
    """Level 1 of two; client 2 had no batch of it in its last epoch."""
    rng = np.random.default_rng(0)
    spec = dataclasses.replace(SPEC, levels=2, level_of={"b.running_mean": 1, "b.running_var": 1})
    data = [rng.normal(client, 1 + client, (n, 6)) for client, n in enumerate((20, 50))]
    start = {name: np.full(shape, 3, np.float32) for name, shape in SPEC.parameters.items()}
    others = {name: value for name, value in start.items() if "running" not in name}
    updates = [
        client_update(client, (7, len(x)), others | {"b.running_mean": x.mean(0), "b.running_var": x.var(0)})
        for client, x in enumerate(data)
    ]
    updates.append(client_update(2, (100, 0), {name: value + 9 for name, value in start.items()}))
    found = round_step(ServerState(0, start), updates, strategy(), spec, start)[0].tensors
    every = np.concatenate(data)
    assert np.allclose(found["b.running_mean"], every.mean(0), atol=1e-6)
    assert np.allclose(found["b.running_var"], every.var(0), atol=1e-5)
    nobody = round_step(ServerState(0, start), updates[2:], strategy(), spec, start)[0].tensors
    assert (nobody["b.running_mean"] == 3).all() and (nobody["b.running_var"] == 3).all()
