"""What a local training draws: batches and held-out examples; and its state on disk."""

import numpy as np
import pytest

from fedgate.device_runtime.errors import FedgateError, UsageError
from fedgate.device_runtime.tuning.evaluate import held_out, scores
from fedgate.device_runtime.tuning.plan import TunePlan, plan_from_json
from fedgate.device_runtime.tuning.state import initial_state, state_arrays, state_from_arrays
from fedgate.device_runtime.tuning.steps import batches


@pytest.mark.parametrize(("count", "size"), [(33, 16), (16, 16), (5, 16), (100, 7), (1, 1)])
def test_an_epoch_takes_every_example_once_in_even_batches(count, size):
    chosen = np.arange(count) * 3
    parts = batches(chosen, size, seed=1, epoch=0)
    assert sorted(np.concatenate(parts).tolist()) == chosen.tolist()
    sizes = [len(part) for part in parts]
    assert len(parts) == -(-count // size) and max(sizes) <= size and max(sizes) - min(sizes) <= 1


def test_the_order_follows_from_seed_and_epoch():
    chosen = np.arange(50)
    orders = {tuple(np.concatenate(batches(chosen, 8, seed, epoch))) for seed in (0, 1) for epoch in (0, 1)}
    assert len(orders) == 4
    again = np.concatenate(batches(chosen, 8, 0, 0))
    assert np.array_equal(again, np.concatenate(batches(chosen, 8, 0, 0)))


def test_each_class_holds_out_its_share():
    labels = np.array([0] * 10 + [1] * 5 + [2] + [0] * 10)
    rows = np.flatnonzero(np.arange(26) != 3)  # one could not be read
    kept, held = held_out(labels, rows, 0.2, seed=0)
    assert sorted([*kept, *held]) == rows.tolist()
    assert np.bincount(labels[held], minlength=3).tolist() == [4, 1, 0]  # the only example of class 2 is trained on
    assert not np.array_equal(held, held_out(labels, rows, 0.2, seed=1)[1])


def test_scores_by_hand():
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]], np.float32)) + 3
    found = scores(logits, np.array([0, 1]))
    assert found["accuracy"] == 0.5 and found["loss"] == pytest.approx(-(np.log(0.5) + np.log(0.2)) / 2)


def test_a_state_comes_back_as_it_was():
    state = initial_state({"a.weight": np.ones((2, 3), np.float32)}, 4)
    arrays, counts = state_arrays(state, "best/")
    back = state_from_arrays(arrays | {"state/other": np.zeros(1)}, counts, "best/")
    assert state_arrays(back, "best/")[1] == counts
    for name, value in state_arrays(back, "best/")[0].items():
        assert value.dtype == arrays[name].dtype and np.array_equal(value, arrays[name])
    arrays.pop("best/touched")
    with pytest.raises(FedgateError, match="lacks"):
        state_from_arrays(arrays, counts, "best/")


SENT = {
    "algorithm": "fedavg",
    "adaptive_gradient": True,
    "densities": [0.25, 0.5],
    "level": None,
    "epochs": 2,
    "batch_size": 16,
    "lr": 0.1,
    "lr_decay": 1.0,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "clip_norm": 1.0,
    "seed": 2**63,
    "upload_share": None,
    "codec": "int8",
    "sliced": True,
}


def test_a_servers_plan(manifest):
    sent = SENT | {"densities": list(manifest.densities)}
    plan = plan_from_json(sent, manifest, 1)
    assert (plan.level, plan.epochs, plan.codec, plan.upload_share, plan.seed) == (1, 2, "int8", None, 2**63)
    assert plan_from_json(sent | {"level": 1, "upload_share": 0.5}, manifest, 1).upload_share == 0.5


@pytest.mark.parametrize(
    "change",
    [
        {"algorithm": "scaffold"},
        {"algorithm": ["fedavg"]},
        {"adaptive_gradient": False},
        {"densities": [0.5]},
        {"densities": None},
        {"level": 0},
        {"level": "1"},
        {"epochs": 0},
        {"lr": float("nan")},
        {"lr": "0.1"},
        {"codec": "zip"},
        {"momentum": 1.0},
        {"seed": -1},
        {"upload_share": 2},
    ],
    ids=str,
)
def test_a_servers_plan_that_cannot_be_done(manifest, change):
    sent = SENT | {"densities": list(manifest.densities)} | change
    with pytest.raises(FedgateError):
        plan_from_json(sent, manifest, 1)


@pytest.mark.parametrize("key", sorted(SENT.keys() - {"sliced"}))
def test_a_servers_plan_that_lacks_something(manifest, key):
    sent = SENT | {"densities": list(manifest.densities)}
    with pytest.raises(FedgateError, match=key):
        plan_from_json({name: value for name, value in sent.items() if name != key}, manifest, 1)


@pytest.mark.parametrize(
    ("change", "option"),
    [
        ({"lr": 0.0}, "--lr"),
        ({"batch_size": 0}, "--batch-size"),
        ({"codec": "zip"}, "codec"),
        ({"epochs": 0}, "--epochs"),
    ],
)
def test_options_out_of_range(change, option):
    with pytest.raises(UsageError, match=option):
        TunePlan(level=0, **change)
