"""Each algorithm's server step against its paper's equations, one entry after the other."""

import dataclasses

import numpy as np
import pytest
from strategy_references import PARAMETERS, SHAPES, SPEC, mask_of, random_round, strategy

from fedgate.train.strategies import round_step
from fedgate.train.strategies.fednova import effective_steps

MASKED = pytest.mark.parametrize("masked", [False, True])


def entries(name):
    return np.ndindex(SHAPES[name][0])


def step(state, updates, **given):
    return round_step(state, updates[::-1], strategy(**given), SPEC, state.tensors)[0]


def mean_change(updates, wholes, masks, state, name, place):
    """FedAvg's change of one entry, or None where nobody sent it."""
    sent = [
        (u.examples, float(w[name][place])) for u, w, m in zip(updates, wholes, masks, strict=True) if m[name][place]
    ]
    if not sent:
        return None
    return sum(n * w for n, w in sent) / sum(n for n, _ in sent) - float(state.tensors[name][place])


@MASKED
def test_fedavg(masked):
    state, updates, wholes, masks, _ = random_round(0, masked)
    found = step(state, updates).tensors
    kept = 0
    for name in SHAPES:
        for place in entries(name):
            change = mean_change(updates, wholes, masks, state, name, place)
            kept += change is None
            assert found[name][place] == pytest.approx(float(state.tensors[name][place]) + (change or 0.0), abs=1e-6)
            if change is None:
                assert found[name][place] == state.tensors[name][place]
    assert (kept > 0) == masked


def a_vector(steps, momentum):
    """|a| of SGD with momentum (FedNova, section 4): its elements are (1 - rho^(tau - k)) / (1 - rho), k from 0."""
    return sum((1 - momentum ** (steps - k)) / (1 - momentum) for k in range(steps))


@pytest.mark.parametrize("steps, momentum", [(1, 0.0), (7, 0.0), (1, 0.9), (40, 0.9)])
def test_effective_steps(steps, momentum):
    assert effective_steps(steps, momentum) == pytest.approx(a_vector(steps, momentum), rel=1e-12)


def test_effective_steps_with_a_learning_rate_that_falls_by_the_epoch():
    velocity = distance = 0.0
    for number in range(12):
        velocity = 0.9 * velocity + 1
        distance += 0.5 ** (number // 4) * velocity
    assert effective_steps(12, 0.9, 3, 0.5) == pytest.approx(distance, rel=1e-12)


@MASKED
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_fednova(masked, momentum):
    state, updates, wholes, masks, _ = random_round(1, masked)
    found = step(state, updates, algorithm="fednova", momentum=momentum).tensors
    for name in PARAMETERS:
        for place in entries(name):
            x = float(state.tensors[name][place])
            sent = [
                (u.examples, a_vector(u.local_steps, momentum), float(w[name][place]))
                for u, w, m in zip(updates, wholes, masks, strict=True)
                if m[name][place]
            ]
            total = sum(n for n, _, _ in sent)
            if sent:
                tau = sum(n / total * a for n, a, _ in sent)
                x += tau * sum(n / total * (y - x) / a for n, a, y in sent)
            assert found[name][place] == pytest.approx(x, abs=1e-6)


def test_fednova_is_fedavg_where_all_make_the_same_steps():
    state, updates, *_ = random_round(2, True, steps=17)
    one, two = (step(state, updates, algorithm=name, momentum=0.9).tensors for name in ("fedavg", "fednova"))
    for name in SHAPES:
        assert np.abs(one[name] - two[name]).max() <= 1e-6


@MASKED
def test_scaffold(masked):
    """Two rounds of three of five clients each: the model, and the server's control variate."""
    names = sorted(PARAMETERS)
    variates = [{name: np.zeros(SHAPES[name][0]) for name in names} for _ in range(5)]
    ever = [{name: np.ones(SHAPES[name][0], bool) for name in names} for _ in range(5)]
    layers = [None] * 5
    state = None
    for number, present in enumerate(([0, 1, 2], [1, 2, 4])):
        start, updates, wholes, masks, controls = random_round(3 + number, masked, control=names)
        state = start if state is None else state
        before = state
        updates = [dataclasses.replace(update, client=client) for update, client in zip(updates, present, strict=True)]
        state = step(state, updates, algorithm="scaffold", clients=5)
        for client, update, mask, control in zip(present, updates, masks, controls, strict=True):
            kept = {layer: set(channels.tolist()) for layer, channels in update.channels.items()}
            layers[client] = {a: kept[a] | (layers[client] or {a: set()}).get(a, set()) for a in kept}
            for name in names:
                variates[client][name] += np.where(mask[name], control[name], 0.0)
                ever[client][name] = mask_of(name, layers[client])
        for name in names:
            for place in entries(name):
                sent = [float(w[name][place]) for w, m in zip(wholes, masks, strict=True) if m[name][place]]
                x = float(before.tensors[name][place])
                x += sum(y - x for y in sent) / max(1, len(sent))
                assert state.tensors[name][place] == pytest.approx(x, abs=1e-6)
                counted = sum(bool(each[name][place]) for each in ever)
                c = sum(each[name][place] for each in variates) / max(1, counted)
                assert state.memory[f"control/{name}"][place] == pytest.approx(c, abs=1e-6)
                assert masked or counted == 5  # without masks it is the paper's N


@MASKED
@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_server_optimizers(masked, optimizer):
    """Three rounds; what nobody sent does not move, and its moments neither."""
    state, beta, lr = None, 0.8, 0.3
    first = {name: np.zeros(shape) for name, (shape, _) in SHAPES.items()}
    second = {name: np.zeros(shape) for name, (shape, _) in SHAPES.items()}
    for number in range(3):
        start, updates, wholes, masks, _ = random_round(10 + number, masked)
        state = start if state is None else state
        before = state
        state = step(state, updates, server_optimizer=optimizer, server_lr=lr, server_momentum=beta)
        for name in SHAPES:
            for place in entries(name):
                x = float(before.tensors[name][place])
                change = mean_change(updates, wholes, masks, before, name, place)
                if change is None:
                    assert state.tensors[name][place] == before.tensors[name][place]
                    continue
                if name not in PARAMETERS:
                    wanted = x + change
                elif optimizer == "momentum":
                    first[name][place] = beta * first[name][place] + change
                    wanted = x + lr * first[name][place]
                else:
                    first[name][place] = beta * first[name][place] + (1 - beta) * change
                    second[name][place] = 0.99 * second[name][place] + 0.01 * change**2
                    wanted = x + lr * first[name][place] / (np.sqrt(second[name][place]) + 1e-3)
                assert state.tensors[name][place] == pytest.approx(wanted, abs=1e-6)


def test_what_a_codec_lost_stays_with_the_server():
    """Clients start from other weights than the server's: it takes over their change."""
    state, updates, wholes, masks, _ = random_round(5, False)
    base = {name: value + np.float32(0.25) for name, value in state.tensors.items()}
    found = round_step(state, updates, strategy(), SPEC, base)[0].tensors
    for name in PARAMETERS:
        for place in entries(name):
            change = mean_change(updates, wholes, masks, state, name, place)
            assert found[name][place] == pytest.approx(float(state.tensors[name][place]) + change - 0.25, abs=1e-6)


@MASKED
@pytest.mark.parametrize("kind", ["median", "trimmed-mean"])
def test_robust_aggregation(masked, kind):
    state, updates, wholes, masks, _ = random_round(6, masked, clients=11)
    found = step(state, updates, robust=kind).tensors
    for name in SHAPES:
        for place in entries(name):
            sent = sorted(float(w[name][place]) for w, m in zip(wholes, masks, strict=True) if m[name][place])
            cut = max(1, int(0.2 * len(sent)))
            if len(sent) < 3:  # one liar could choose the value, and nobody would be left out
                wanted = state.tensors[name][place]
            else:
                wanted = np.median(sent) if kind == "median" else np.mean(sent[cut : len(sent) - cut])
            assert found[name][place] == pytest.approx(float(wanted), abs=1e-6)


def test_two_of_eleven_liars_do_not_steer_a_robust_aggregation():
    state, updates, *_ = random_round(7, False, clients=11)
    lying = [
        dataclasses.replace(u, values={n: v * 0 + 1e30 for n, v in u.values.items()}, examples=10**6)
        for u in updates[:2]
    ]
    for kind in ("median", "trimmed-mean"):
        found = step(state, lying + updates[2:], robust=kind).tensors
        assert max(np.abs(value).max() for value in found.values()) < 5


def test_clipping_bounds_a_clients_change():
    state, updates, *_ = random_round(8, True, clients=1)
    free = step(state, updates).tensors
    length = np.sqrt(sum(((free[name] - state.tensors[name]) ** 2).sum() for name in PARAMETERS))
    for limit in (0.5 * length, 2 * length):
        found = step(state, updates, clip=limit).tensors
        share = min(1.0, limit / length)
        for name in SHAPES:
            wanted = state.tensors[name] + share * (free[name] - state.tensors[name])
            assert np.abs(found[name] - wanted).max() <= 1e-6
