"""One whole round of each algorithm, clients and server, against its paper's equations written out on the `cnn`."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_cnn import OWN, PLAN, READS, network_of, put_back, state_of

from fedgate.device_runtime.formats.update import decode_update
from fedgate.train.data.augment import normalise
from fedgate.train.engines.loop import Trainer
from fedgate.train.local.client import batches, client_seed
from fedgate.train.network.build import load_tensors, network_tensors
from fedgate.train.network.channels import update_spec
from fedgate.train.server.downloads import Broadcast
from fedgate.train.strategies import Strategy, initial_state, round_step

PARTS = [np.arange(0, 32), np.arange(32, 80), np.arange(80, 96)]
GATES = {"none": (1.0,), "paper": (0.2,)}


def plan_of(client, algorithm, momentum, gate, **given):
    plan = dataclasses.replace(
        PLAN, epochs=2, batch_size=16, lr=0.05, momentum=momentum, densities=GATES[gate], **given
    )
    return dataclasses.replace(plan, algorithm=algorithm, seed=client_seed(0, 0, client))


def variates_of(network):
    """Control variates of each client, as if rounds had gone before."""
    rng = np.random.default_rng(0)
    parameters = dict(network.body.named_parameters())
    return [{name: rng.normal(0, 0.05, p.shape).astype(np.float32) for name, p in parameters.items()} for _ in PARTS]


def run(digits, algorithm, momentum, gate, **given):
    """The state of the server after a round, and what the clients keep, by the code under test."""
    network = network_of(gate, GATES[gate])
    names = sorted(name for name, _ in network.body.named_parameters())
    strategy = Strategy(frozenset(names), len(PARTS), algorithm, momentum=momentum, epochs=2)
    state, states = initial_state(network_tensors(network), strategy), [{}, {}, {}]
    if algorithm == "scaffold":
        variates = variates_of(network)
        states = [{f"control/{name}": value for name, value in each.items()} for each in variates]
        for name in names:
            state.memory[f"variates/{name}"] = sum(each[name].astype(np.float64) for each in variates)
            state.memory[f"control/{name}"] = (state.memory[f"variates/{name}"] / len(PARTS)).astype(np.float32)
    spec = update_spec(network, "run", names if algorithm == "scaffold" else ())
    trainer = Trainer(network, digits, PARTS, "fp32")
    broadcast, updates = Broadcast(state, spec), []
    for client in range(len(PARTS)):
        plan = plan_of(client, algorithm, momentum, gate, **given)
        result = trainer.train(client, broadcast.blob(None), None, broadcast.spec, plan, states[client])
        states[client] = result.state
        updates.append(decode_update(result.blob, broadcast.spec, broadcast.public))
    return round_step(state, updates, strategy, broadcast.spec, broadcast.public)[0], states


def local_training(digits, network, part, plan, mu, drift):
    """SGD as the papers write it: per batch the gradient, plus mu (w - w_t), plus c - c_k; closed channels rest.

    Returns by name how far a steady gradient goes, counted entry by entry, and the number of steps.
    """
    network.train()
    network.set_densities(plan.densities)
    starts = {name: p.detach().clone() for name, p in network.body.named_parameters()}
    optimizer = torch.optim.SGD(network.parameters(), plan.lr, plan.momentum, weight_decay=plan.weight_decay)
    generator, steps = torch.Generator().manual_seed(plan.seed), 0
    speed = {name: np.zeros(p.shape) for name, p in starts.items()}
    went = {name: np.zeros(p.shape) for name, p in starts.items()}
    images, labels = digits.train_images[part], digits.train_labels[part]
    for _ in range(plan.epochs):
        for chosen in batches(len(part), plan.batch_size, generator):
            before = state_of(network, optimizer)
            x = normalise(images[chosen], digits.mean, digits.std).contiguous(memory_format=torch.channels_last)
            optimizer.zero_grad()
            F.cross_entropy(network(x), labels[chosen]).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), plan.clip_norm)
            with torch.no_grad():
                for name, p in network.body.named_parameters():
                    p.grad += mu * (p - starts[name]) + drift[name]
            optimizer.step()
            with torch.no_grad():
                put_back(network, optimizer, before)
            steps += 1
            marks = moving(network)
            for name in speed:
                speed[name] = np.where(marks[name], plan.momentum * speed[name] + 1, speed[name])
                went[name] += np.where(marks[name], plan.lr * speed[name], 0.0)
    return went, steps


def moving(network):
    """By parameter, the entries between channels that the last batch opened."""
    marks = {name: np.ones(p.shape, bool) for name, p in network.body.named_parameters()}
    for layer, gate in network.gates.items():
        closed = ~gate.open.any(0).numpy()
        for name in marks:
            if name in OWN[layer]:
                marks[name][closed] = False
            if name in READS[layer]:
                marks[name][:, closed] = False
    return marks


def reference(digits, algorithm, momentum, gate, mu=0.0):
    """The same round by the equations, in float64 on the server: (tensors, c, c_k of each client)."""
    network = network_of(gate, GATES[gate])
    x = {name: value.astype(np.float64) for name, value in network_tensors(network).items()}
    names = [name for name, _ in network.body.named_parameters()]
    c_k = variates_of(network)
    c = {name: sum(each[name].astype(np.float64) for each in c_k) / len(PARTS) for name in names}
    ends, taus = [], []
    for client, part in enumerate(PARTS):
        load_tensors(network, {name: value.astype(np.float32) for name, value in x.items()})
        scaffold = algorithm == "scaffold"
        drift = {name: torch.tensor(c[name] - c_k[client][name] if scaffold else 0.0).float() for name in names}
        plan = plan_of(client, algorithm, momentum, gate)
        went, steps = local_training(digits, network, torch.from_numpy(part), plan, mu, drift)
        y = network_tensors(network)
        ends.append({name: value.astype(np.float64) for name, value in y.items()})
        taus.append(sum((1 - momentum ** (steps - k)) / (1 - momentum) for k in range(steps)))
        for name in names:
            moved = went[name] > 0
            slope = (x[name] - y[name])[moved] / went[name][moved]
            c_k[client][name][moved] += slope - c[name][moved]
    p = np.array([len(part) for part in PARTS]) / sum(map(len, PARTS))
    tau, new = (p * taus).sum(), {}
    for name, value in x.items():
        y = [end[name] for end in ends]
        if algorithm == "fednova" and name in names:
            new[name] = value + tau * sum(w * (each - value) / t for w, each, t in zip(p, y, taus, strict=True))
        elif algorithm == "scaffold" and name in names:
            new[name] = value + sum(each - value for each in y) / len(PARTS)
        else:
            new[name] = sum(w * each for w, each in zip(p, y, strict=True))
    return new, {name: sum(each[name].astype(np.float64) for each in c_k) / len(PARTS) for name in names}, c_k


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize(
    "algorithm, momentum", [("fedavg", 0.9), ("fedprox", 0.9), ("fednova", 0.9), ("scaffold", 0.0), ("scaffold", 0.9)]
)
def test_a_round_is_what_the_paper_says(digits, algorithm, momentum, gate):
    mu = 0.5 if algorithm == "fedprox" else 0.0
    state, states = run(digits, algorithm, momentum, gate, proximal_mu=mu)
    wanted, control, c_k = reference(digits, algorithm, momentum, gate, mu)
    for name, value in wanted.items():
        assert np.abs(state.tensors[name] - value).max() <= 1e-6 * max(1.0, np.abs(value).max()), name
    if algorithm == "scaffold":
        for name, value in control.items():
            assert np.abs(state.memory[f"control/{name}"] - value).max() <= 1e-5, name  # differences over lr
            for kept, each in zip(states, c_k, strict=True):
                assert np.abs(kept[f"control/{name}"] - each[name]).max() <= 1e-5, name
    else:
        assert state.memory == {} and all(set(kept) == {"held/round"} for kept in states)
