"""FedAvg against a hand computation and against Flower's own."""

import numpy as np
import pytest

from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.formats.update import Update, UpdateSpec
from fedgate.train import strategies
from fedgate.train.strategies import ServerState, Strategy


def round_step(state, updates):
    """FedAvg of tensors that no gate indexes, from a state of zeros."""
    shapes = {name: value.shape for name, value in updates[0].values.items()} if updates else {}
    spec = UpdateSpec(shapes, {name: (None,) * len(shape) for name, shape in shapes.items()}, {}, 1, "run", 0, "0" * 64)
    state = ServerState(state.round, {name: np.zeros(shape, np.float32) for name, shape in shapes.items()})
    strategy = Strategy(frozenset(name for name in shapes if "running" not in name), len(updates))
    return strategies.round_step(state, updates, strategy, spec, state.tensors)[0]


def update(client, examples, **values):
    arrays = {name: np.asarray(value, np.float32) for name, value in values.items()}
    return Update("run", 0, "0" * 64, client, examples, 1, (examples,), {}, arrays)


def random_updates(count=7, seed=0):
    rng = np.random.default_rng(seed)
    shapes = {"conv.weight": (8, 3, 3, 3), "norm.running_var": (8,), "head.bias": (10,)}
    return [
        update(client, int(rng.integers(1, 500)), **{name: rng.normal(size=shape) for name, shape in shapes.items()})
        for client in range(count)
    ]


def test_fedavg_by_hand():
    state = round_step(ServerState(4, {}), [update(0, 1, w=[1.0, 0.0]), update(1, 3, w=[5.0, 4.0])])
    assert state.round == 5 and state.tensors["w"].tolist() == [4.0, 3.0]
    assert state.tensors["w"].dtype == np.float32


def test_with_full_masks_it_is_the_plain_weighted_sum_bit_for_bit():
    updates = random_updates()
    total = float(sum(update.examples for update in updates))
    for name, value in round_step(ServerState(0, {}), updates).tensors.items():
        sum_ = np.zeros(value.shape, np.float64)
        for update in updates:
            sum_ += update.values[name].astype(np.float64) * update.examples
        assert (sum_ / total).astype(np.float32).tobytes() == value.tobytes()


def test_the_order_of_arrival_changes_no_bit():
    updates = random_updates()
    one, two = (round_step(ServerState(0, {}), order).tensors for order in (updates, updates[::-1]))
    assert all(one[name].tobytes() == two[name].tobytes() for name in one)


def test_a_single_clients_values_are_kept_bit_for_bit():
    (only,) = random_updates(1)
    state = round_step(ServerState(0, {}), [only])
    assert all(state.tensors[name].tobytes() == value.tobytes() for name, value in only.values.items())


def test_fedavg_agrees_with_flowers():
    """Flower's FedAvg on the same values; in float64, since in float32 its own sums round to about 1e-7."""
    from flwr.app import ArrayRecord, MetricRecord, RecordDict
    from flwr.common import Array
    from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords

    updates = random_updates()
    records = []
    for one in updates:
        arrays = ArrayRecord({name: Array(value.astype(np.float64)) for name, value in one.values.items()})
        metrics = MetricRecord({"num-examples": one.examples})
        records.append(RecordDict({"arrays": arrays, "metrics": metrics}))
    theirs = aggregate_arrayrecords(records, "num-examples")
    ours = round_step(ServerState(0, {}), updates).tensors
    assert set(theirs) == set(ours)
    for name, value in ours.items():
        assert np.abs(theirs[name].numpy() - value).max() <= 1e-7


def test_a_round_without_updates_is_an_error():
    with pytest.raises(FedgateError, match="round 3 got no update"):
        round_step(ServerState(2, {}), [])
