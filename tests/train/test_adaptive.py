"""The adaptive gradient against plain SGD whose result is put back entry by entry."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_cnn import OWN, PLAN, READS, network_of, put_back, state_of

from fedgate.train.data.augment import normalise
from fedgate.train.local.adaptive import Moves
from fedgate.train.local.client import batches, train_locally
from fedgate.train.local.step import Rates, step
from fedgate.train.network.build import network_tensors


def reference(digits, plan, count):
    """Local training with closed channels put back after each step: (network, how many steps moved each entry)."""
    network = network_of()
    network.train()
    network.set_densities(plan.densities)
    optimizer = torch.optim.SGD(network.parameters(), plan.lr, plan.momentum, weight_decay=plan.weight_decay)
    generator, steps = torch.Generator().manual_seed(plan.seed), {}
    for _ in range(plan.epochs):
        for chosen in batches(count, plan.batch_size, generator):
            before = state_of(network, optimizer)
            x = normalise(digits.train_images[chosen], digits.mean, digits.std)
            x = x.contiguous(memory_format=torch.channels_last)
            loss = F.cross_entropy(network(x), digits.train_labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), plan.clip_norm)
            optimizer.step()
            with torch.no_grad():
                put_back(network, optimizer, before)
            now = state_of(network, optimizer)
            for name in before:
                moved = (now[name] != before[name]).numpy()
                steps[name] = steps.get(name, 0) + moved
    return network, steps


def test_local_training_equals_the_naive_reference(digits):
    plan = dataclasses.replace(PLAN, epochs=2, batch_size=8, densities=(0.2,), weight_decay=0.01, sliced=False)
    network = network_of()
    result = train_locally(network, digits.train_images[:96], digits.train_labels[:96], (digits.mean, digits.std), plan)
    naive, steps = reference(digits, plan, 96)
    ours, theirs = network_tensors(network), network_tensors(naive)
    assert all(ours[name].tobytes() == theirs[name].tobytes() for name in theirs)
    start = network_tensors(network_of())
    for layer, touched in result.touched.items():
        moved = steps[f"value {layer}.conv.weight"].reshape(len(touched), -1).sum(1) > 0
        assert (touched == moved).all() and 0 < touched.sum() < len(touched)
        for name in OWN[layer]:
            assert (ours[name][~touched] == start[name][~touched]).all()
            assert (ours[name][touched] != start[name][touched]).any()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_momentum_and_distance_of_closed_channels_rest(digits, momentum):
    """Each batch, in weights, norms, statistics, predictors and momentum buffers; channels come and go."""
    network = network_of()
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum, weight_decay=0.1)
    moves, counted, speed, distance = Moves(network, momentum, counted=True), {}, {}, {}
    parameters, momenta = dict(network.body.named_parameters()), {}
    rng = np.random.default_rng(0)
    for index in range(4):
        lr = optimizer.param_groups[0]["lr"] = 0.1 / (1 + index)
        for gate in network.gates.values():
            gate.forced = torch.from_numpy(rng.random((8, gate.out_channels)) < 0.1)
        before = state_of(network, optimizer)
        x = normalise(digits.train_images[rng.integers(0, 1000, 8)], digits.mean, digits.std)
        moves.before()
        loss = F.cross_entropy(network(x), digits.train_labels[:8])
        optimizer.zero_grad()
        loss.backward()
        grads, moved = {name: p.grad for name, p in parameters.items()}, state_of(network, optimizer)
        rates = Rates(lr, momentum, 0.1, 0.0)
        with torch.no_grad():
            after, momenta = step(parameters, grads, momenta, moves.after(lr), rates)
        now = {f"value {name}": value.clone() for name, value in (network.body.state_dict() | after).items()}
        now |= {f"momentum {name}": momenta.get(name, torch.zeros_like(p)) for name, p in parameters.items()}
        optimizer.step()
        wanted, plain = (
            copy.deepcopy(before),
            moved
            | {name: value for name, value in state_of(network, optimizer).items() if name.split()[1] in parameters},
        )
        opened = {layer: gate.open.any(0).numpy() for layer, gate in network.gates.items()}
        for name in wanted:
            kind, tensor = name.split()
            mask = np.ones(wanted[name].shape, bool)
            for layer in opened:
                if tensor in OWN[layer]:
                    mask[~opened[layer]] = False
                if tensor in READS[layer]:
                    mask[:, ~opened[layer]] = False
            wanted[name][mask] = plain[name][mask]
            if kind == "value":
                counted[tensor] = counted.get(tensor, 0) + mask
                speed[tensor] = np.where(mask, momentum * speed.get(tensor, 0.0) + 1, speed.get(tensor, 0.0))
                distance[tensor] = distance.get(tensor, 0.0) + lr * np.where(mask, speed[tensor], 0.0)
        with torch.no_grad():
            for name, p in parameters.items():
                p.copy_(after[name])
                if momentum:
                    optimizer.state[p]["momentum_buffer"].copy_(momenta[name])
        assert all(now[name].numpy().tobytes() == wanted[name].numpy().tobytes() for name in wanted)
    for name in network.body.state_dict():
        assert np.allclose(moves.distance(name), distance[name], rtol=1e-12, atol=0), name
    assert {0, 1, 2, 3} <= set(counted["features.7.conv.weight"].ravel().tolist())


def test_without_gates_it_is_plain_sgd(digits):
    plan = dataclasses.replace(PLAN, epochs=1, densities=(1.0,))
    networks = [network_of("none", (1.0,)) for _ in range(2)]
    for network, adaptive in zip(networks, (True, False), strict=True):
        images, labels = digits.train_images[:96], digits.train_labels[:96]
        asked = dataclasses.replace(plan, adaptive_gradient=adaptive)
        train_locally(network, images, labels, (digits.mean, digits.std), asked)
    one, two = map(network_tensors, networks)
    assert all(one[name].tobytes() == two[name].tobytes() for name in one)


def test_without_it_momentum_and_decay_move_closed_channels(digits):
    plan = dataclasses.replace(PLAN, epochs=1, batch_size=8, densities=(0.2,), adaptive_gradient=False)
    network = network_of()
    result = train_locally(network, digits.train_images[:32], digits.train_labels[:32], (digits.mean, digits.std), plan)
    closed = ~result.touched["features.7"]
    assert closed.any()
    start, end = network_tensors(network_of()), network_tensors(network)
    assert (end["features.7.conv.weight"][closed] != start["features.7.conv.weight"][closed]).all()


def test_a_level_rests_while_another_trains(digits):
    """A client that trains one level moves that level's norms alone; each batch counts for its level."""
    densities = (0.2, 0.5, 1.0)
    network = network_of(density=densities)
    start = network_tensors(network)
    plan = dataclasses.replace(PLAN, epochs=1, densities=densities, level=1)
    result = train_locally(network, digits.train_images[:96], digits.train_labels[:96], (digits.mean, digits.std), plan)
    end = network_tensors(network)
    assert result.salience.samples.tolist() == [0, 96, 0]
    for name in start:
        if ".norms." in name:
            assert (start[name].tobytes() != end[name].tobytes()) == (".norms.1." in name), name
