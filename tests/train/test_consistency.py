"""Whether changes follow from each other: clients that descend on their own bowls, and one that does something else."""

import dataclasses

import numpy as np
import pytest
from strategy_references import PARAMETERS, SIZES, SPEC, random_channels, random_state, random_update, strategy

from fedgate.train.strategies import ServerState, initial_state, round_step
from fedgate.train.strategies.consistency import LENGTH, inconsistent, sketch

CLIENTS, LIAR = 7, 3


class Bowls:
    """Clients each of which steps part of the way to a place of its own, more along some entries than others."""

    def __init__(self, seed=0):
        self.rng = np.random.default_rng(seed)
        whole = random_channels(self.rng, False)
        self.forms = [random_update(self.rng, client, whole)[0] for client in range(CLIENTS)]
        self.steps = [{n: self.rng.uniform(0.05, 0.6, v.shape) for n, v in form.values.items()} for form in self.forms]

    def updates(self, state):
        """Their steps get smaller from round to round, as with a learning rate that falls."""
        falls = 0.8**state.round
        return [
            self.update(state.tensors, state.round, falls, *each) for each in zip(self.forms, self.steps, strict=True)
        ]

    def update(self, base, round_, falls, form, steps):
        values = dict(base)
        for name in sorted(PARAMETERS):
            noise = self.rng.normal(0, 0.01, base[name].shape)
            values[name] = np.float32(base[name] + falls * steps[name] * (form.values[name] - base[name]) + noise)
        return dataclasses.replace(form, base_round=round_, examples=50, values=values)


def weights(update, change):
    made = {n: np.asarray(change(n, v), np.float32) if n in PARAMETERS else v for n, v in update.values.items()}
    return dataclasses.replace(update, values=made)


def run(lie, rounds=6, seed=0, **options):
    """By round who was refused, and why; lie: (round, the liar's update, the base, the others') -> what it sends."""
    bowls, refused = Bowls(seed), []
    chosen = strategy(clients=CLIENTS, bound=2.0, **options)
    state = initial_state(random_state(np.random.default_rng(9)).tensors, chosen)
    for number in range(rounds):
        updates = bowls.updates(state)
        others = [update for update in updates if update.client != LIAR]
        updates[LIAR] = lie(number, updates[LIAR], state.tensors, others)
        state, not_taken = round_step(state, updates, chosen, SPEC, state.tensors)
        refused.append(not_taken.refused)
    return refused


def honest(number, own, base, others):
    return own


def negated(number, own, base, others, factor=-1):
    return weights(own, lambda n, v: base[n] + factor * (v - base[n]))


@pytest.mark.parametrize(
    "options", [{}, {"algorithm": "fednova"}, {"robust": "median"}, {"server_optimizer": "momentum"}]
)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_honest_clients_are_never_refused(seed, options):
    assert run(honest, seed=seed, **options) == [{}] * 6


@pytest.mark.parametrize("factor", [-1, -3, -0.1])
def test_a_negated_change_is_refused_from_the_second_round_on(factor):
    first, *later = run(lambda *given: negated(*given, factor=factor))
    assert first == {} and all(set(each) == {LIAR} for each in later)
    assert "it turned the way that the model went" in later[0][LIAR]


def test_who_trains_again_is_back_after_two_updates():
    def once(number, *given):
        return negated(number, *given) if number < 2 else honest(number, *given)

    found = [LIAR in each for each in run(once, rounds=8)]
    assert found[1] and not any(found[-3:])


def test_weights_that_were_sent_before_are_refused():
    kept = {}

    def replay(number, own, base, others):
        return weights(own, lambda n, v: kept.setdefault(n, v))

    first, *later = run(replay)
    assert first == {} and all(set(each) == {LIAR} for each in later)
    assert "the weights that it sent before" in later[0][LIAR]


def test_weights_that_were_sent_before_are_known_under_noise():
    first, noise = {}, np.random.default_rng(3)

    def nudged(number, own, base, others):
        sent = weights(own, lambda n, v: first.setdefault(n, v))
        return weights(sent, lambda n, v: v + noise.normal(0, 0.05, v.shape))

    found = run(nudged, rounds=8)
    assert all(set(each) <= {LIAR} for each in found) and all(each for each in found[4:])
    assert any("do not go along with the model" in reason for each in found for reason in each.values())


def test_an_absurd_change_is_not_what_the_next_is_compared_with():
    def absurd(number, own, base, others):
        return weights(own, lambda n, v: np.full(v.shape, 3e38)) if number == 1 else own

    found = run(absurd)
    assert "many times as long" in found[1][LIAR] and [each for i, each in enumerate(found) if i != 1] == [{}] * 5


def test_half_of_a_round_are_not_refused_together():
    bowls, memory = Bowls(), {}
    base = random_state(np.random.default_rng(9)).tensors
    updates = bowls.updates(ServerState(0, base))
    _, memory = inconsistent(updates, base, SPEC, memory, 0)
    moved = {name: value + np.float32(1) for name, value in base.items()}
    again = [dataclasses.replace(update, base_round=1) for update in updates]
    assert inconsistent(again, moved, SPEC, memory, 1)[0] == {}
    fresh = bowls.updates(ServerState(1, moved))
    found, _ = inconsistent([*again[:3], *fresh[3:]], moved, SPEC, memory, 1)
    assert set(found) == {0, 1, 2}


def test_parts_of_channels_and_strangers():
    """Slices are compared where they lie, and of a base that nobody remembers nothing is said."""
    base = random_state(np.random.default_rng(9)).tensors
    some = {layer: np.arange(size // 2, dtype=np.uint16) for layer, size in SIZES.items()}
    updates = [dataclasses.replace(u, channels=some, values=SPEC.take(u.values, some)) for u in Bowls().forms]
    found, memory = inconsistent(updates, base, SPEC, {}, 4)
    assert found == {} and list(memory) == ["base/4", "usual/4"]
    updates = [dataclasses.replace(update, base_round=4) for update in updates]
    found, memory = inconsistent(updates, base, SPEC, {}, 4)
    assert found == {} and len(memory) == CLIENTS + 2 and all(np.isfinite(each).all() for each in memory.values())


def test_sketches_keep_cosines():
    rng = np.random.default_rng(0)
    one, two = rng.normal(size=(2, 60_000))
    for share in (0.0, 0.3, 1.0):
        a, b = sketch([one.reshape(300, 200)]), sketch([share * one + (1 - share) * two])
        assert a.shape == (LENGTH,)
        exact = one @ (share * one + (1 - share) * two) / np.linalg.norm(one)
        exact /= np.linalg.norm(share * one + (1 - share) * two)
        assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) == pytest.approx(exact, abs=0.06)
    assert (sketch([one[:9]]) == one[:9]).all()
