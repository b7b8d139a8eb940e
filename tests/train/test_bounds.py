"""One client of ten, whatever it sends: the next state is finite and near, by every algorithm, codec and option."""

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from strategy_references import PARAMETERS, SHAPES, SPEC, random_channels, random_round, random_update, strategy

from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.formats.codec import CODECS
from fedgate.device_runtime.formats.update import MOST, decode_update, encode_update
from fedgate.train.server.claims import believed, usual_strengths
from fedgate.train.strategies import initial_state, round_step
from fedgate.train.strategies.bounds import typical
from fedgate.train.strategies.fednova import effective_steps
from fedgate.train.strategies.statistics import within

BOUND = 2.0
ALGORITHMS = ("fedavg", "fedprox", "fednova", "scaffold")
OPTIONS = [
    *[{"algorithm": algorithm} for algorithm in ALGORITHMS],
    *[{"algorithm": algorithm, "clip": 0.5} for algorithm in ALGORITHMS],
    *[{"robust": kind} for kind in ("median", "trimmed-mean")],
    *[{"server_optimizer": "momentum"}, {"server_optimizer": "adam", "server_lr": 0.01}, {"server_lr": 0.5}],
]
SIZES = st.sampled_from([0.0, 1e-30, 1e-3, 1.0, 1e4, 1e18, 3.4e38])
COUNTS = st.sampled_from([1, 7, 300, MOST])


@st.composite
def lies(draw):
    """What an adversary makes of its update: by tensor a size and a kind, and its claims."""
    return {
        "size": {name: draw(SIZES) for name in SHAPES},
        "kind": draw(st.sampled_from(["random", "all", "one entry", "minus"])),
        "channels": draw(st.sampled_from(["all", "some"])),
        "examples": draw(COUNTS),
        "steps": draw(COUNTS),
        "samples": draw(COUNTS),
        "codec": draw(st.sampled_from(CODECS)),
        "seed": draw(st.integers(0, 2**16)),
    }


def lie(told, base, control):
    """The update of client 9 that decodes to what was told; None where the codec has no such numbers."""
    rng = np.random.default_rng(told["seed"])
    update, *_ = random_update(rng, 9, random_channels(rng, told["channels"] == "some"), control=control)

    def bent(name, value):
        size = told["size"][name]
        made = {
            "random": rng.uniform(-1, 1, value.shape),
            "all": np.ones(value.shape),
            "minus": -np.ones(value.shape),
            "one entry": np.arange(value.size).reshape(value.shape) == 0,
        }[told["kind"]]
        return np.abs(size * made) if name.endswith("var") else size * made

    update = dataclasses.replace(
        update,
        base_hash=SPEC.base_hash,
        examples=told["examples"],
        local_steps=told["steps"],
        samples=(told["samples"],),
        values={name: bent(name, value).astype(np.float32) for name, value in update.values.items()},
        control={name: bent(name, value).astype(np.float32) for name, value in update.control.items()},
        opened={layer: np.full((1, c), min(told["samples"], 2**31), np.uint32) for layer, c in SPEC.channels.items()},
        strength={layer: np.full((1, c), 3e38, np.float32) for layer, c in SPEC.channels.items()},
        codec=told["codec"],
    )
    spec = dataclasses.replace(SPEC, control=tuple(sorted(control)))
    try:
        with np.errstate(all="ignore"):
            return decode_update(encode_update(update, spec, base), spec, base)
    except FedgateError:
        return None


def lengths(updates, base, steps):
    """Of the change of each update that holds all channels, over its |a|."""
    return [
        sum(((u.values[n].astype(float) - base[n]) ** 2).sum() for n in PARAMETERS) ** 0.5 / a
        for u, a in zip(updates, steps, strict=False)
    ]


LARGEST = {"size": dict.fromkeys(SHAPES, 3.4e38), "kind": "all", "channels": "all", "examples": MOST, "steps": 1}
LARGEST |= {"samples": MOST, "codec": "fp32", "seed": 0}


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(map(str, options.values())))
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(lies())
@example(LARGEST)
@example(LARGEST | {"channels": "some", "steps": MOST})
@example(LARGEST | {"size": dict.fromkeys(SHAPES, 1e18), "kind": "one entry", "examples": 1})
def test_one_client_of_ten(options, told):
    """Two rounds in which nine clients make sensible updates and the tenth the same lie.

    The bound of FedAvg: no state moves further than `BOUND` times the longest change of an honest client.
    """
    control = sorted(PARAMETERS) if options.get("algorithm") == "scaffold" else ()
    chosen = strategy(clients=10, bound=BOUND, momentum=0.9, **options)
    state, nova = None, options.get("algorithm") == "fednova"
    for number in range(2):
        start, updates, *_ = random_round(number, False, clients=9, control=control)
        state = initial_state(start.tensors, chosen) if state is None else state
        base = state.tensors | {name: value for name, value in state.memory.items() if name.startswith("control/")}
        liar = lie(told, state.tensors, control)
        if liar is None:
            return
        joined = [*updates, liar]
        limits = usual_strengths(joined, None)
        joined = [believed(update, 300, 60, limits) for update in joined]
        with np.errstate(invalid="raise", divide="raise"):
            after, _ = round_step(state, joined, chosen, SPEC, base)
        for arrays in (after.tensors, after.memory):
            assert all(np.isfinite(array).all() for array in arrays.values())
        steps = [effective_steps(u.local_steps, 0.9) if nova else 1.0 for u in joined]
        honest = lengths(updates, state.tensors, steps)
        moved = sum(((after.tensors[n].astype(float) - state.tensors[n]) ** 2).sum() for n in PARAMETERS) ** 0.5
        far = BOUND * max(honest) * max(steps) * (10 if options.get("robust") else 1.0)
        if "server_optimizer" in options:  # what is remembered moves it too; Adam's steps are at most 1 in its moments
            far = 2 * far + 0.01 * 10 * sum(int(np.prod(SHAPES[n][0])) for n in PARAMETERS) ** 0.5
        assert moved <= far * (1 + 1e-6)
        check_statistics(updates, state.tensors, after.tensors)
        state = after


def check_statistics(updates, before, after):
    """Within the bounds of what honest clients say; `before` is among what they are compared with."""
    means, variances = (
        np.array([*(u.values[f"b.running_{kind}"] for u in updates), before[f"b.running_{kind}"]], float)
        for kind in ("mean", "var")
    )
    deviation = np.sqrt(variances.max())
    assert (after["b.running_mean"] <= means.max(0) + deviation).all()
    assert (after["b.running_mean"] >= means.min(0) - deviation).all()
    assert (after["b.running_var"] >= 0).all() and (after["b.running_var"] <= 4 * variances.max(0) + 1e-6).all()


def test_honest_updates_pass_as_they_are():
    """Clients whose changes are alike lose no bit by the bounds."""
    state, updates, *_ = random_round(3, False, clients=9)
    near = []
    for i, update in enumerate(updates):
        base = SPEC.take(state.tensors, update.channels)
        values = {n: (base[n] * np.float32(1.1 + 0.1 * (i % 2))).astype(np.float32) for n in update.values}
        near.append(dataclasses.replace(update, values=values, examples=100 + i))
    one, two = (
        round_step(state, near, strategy(clients=9, bound=bound), SPEC, state.tensors)[0].tensors
        for bound in (0, BOUND)
    )
    assert all(one[name].tobytes() == two[name].tobytes() for name in SHAPES)


def test_what_only_one_sends_counts_as_what_it_does_to_the_state():
    """An entry that one of ten sends is not averaged with anything: the same change is ten times as long there."""
    state, updates, *_ = random_round(4, False, clients=10)
    updates = [dataclasses.replace(u, examples=50) for u in updates]
    few = {"a": np.array([0], np.uint16), "b": np.array([0], np.uint16)}
    sent = [dataclasses.replace(u, channels=few, values=SPEC.take(u.values, few)) for u in updates[:-1]]
    after, _ = round_step(state, [*sent, updates[-1]], strategy(clients=10, bound=1.0), SPEC, state.tensors)
    alone = [n for n in PARAMETERS if n not in ("stem",)]
    moved = sum(((after.tensors[n].astype(float) - state.tensors[n]) ** 2).sum() for n in alone) ** 0.5
    free, _ = round_step(state, [*sent, updates[-1]], strategy(clients=10), SPEC, state.tensors)
    unbound = sum(((free.tensors[n].astype(float) - state.tensors[n]) ** 2).sum() for n in alone) ** 0.5
    assert moved < 0.5 * unbound


@pytest.mark.parametrize(
    ("found", "last", "wanted"),
    [
        ([1, 2, 3e38], 0, 2),
        ([1, 2, 3, 3e38], 9, 2),
        ([0, 0, 0, 1, 2, 3e38], 9, 2),
        ([3e38], 5, 5),
        ([1e-9, 2], 5, 2),
        ([2, 3e38], 5, 5),
        ([], 5, 5),
        ([3], 0, 3),
        ([0, 0], 0, 0),
    ],
)
def test_the_usual_length_is_nobodys_choice(found, last, wanted):
    """The lower median of what moved at all; with fewer than three, the last round's joins it."""
    assert typical(found, last) == wanted


def test_statistics_within_reach_by_hand():
    """Three agree on 1 +- 2 (variance 4); the fourth is brought to half a deviation and a factor of 1.5."""
    means = np.array([[1.0], [1.0], [1.0], [1e30]])
    variances = np.array([[4.0], [4.0], [4.0], [3e38]])
    made = within(means, variances, np.ones((4, 1), bool), np.zeros(1), np.ones(1))
    assert made[0].ravel().tolist() == [1, 1, 1, 2] and made[1].ravel().tolist() == [4, 4, 4, 6]
    made = within(-means, variances * 0 + [[4], [4], [4], [0]], np.ones((4, 1), bool), np.zeros(1), np.ones(1))
    assert made[0].ravel().tolist() == [-1, -1, -1, -2] and made[1].ravel().tolist() == pytest.approx(
        [4, 4, 4, 4 / 1.5]
    )


def test_a_lone_senders_statistics_are_held_to_the_states():
    means, variances, sent = np.array([[1e30]]), np.array([[3e38]]), np.ones((1, 1), bool)
    mean, variance = within(means, variances, sent, np.array([3.0]), np.array([4.0]))
    assert (mean.item(), variance.item()) == (4.0, 6.0)
    mean, variance = within(means, variances, sent, np.array([3.0]), np.array([4.0]), young=True)
    assert 4 < mean.item() <= 200 and 6 < variance.item() <= 1000
