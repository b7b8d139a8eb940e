"""Salience records and mask statistics against naive counting."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedgate.device_runtime.formats.salience import SalienceRecord
from fedgate.train.network.build import build_network
from fedgate.train.network.salience import SalienceCollector


def record_of(masks):
    """A record of one layer and level from masks bool (N, C)."""
    return SalienceRecord(
        {"a": masks.sum(0, dtype=np.int64)[None]}, {"a": masks.sum(0, dtype=float)[None]}, np.array([len(masks)])
    )


@settings(max_examples=100, deadline=None)
@given(arrays(bool, st.tuples(st.integers(2, 8), st.integers(1, 6))))
def test_overlap_is_the_mean_over_pairs(masks):
    overlap, never, always = record_of(masks).mask_statistics(0)["a"]
    shared = sum((one & two).sum() for one, two in itertools.permutations(masks, 2))
    opened = sum(one.sum() for one, _ in itertools.permutations(masks, 2))
    assert overlap == pytest.approx(shared / opened if opened else 1.0)
    assert never == np.mean([not column.any() for column in masks.T])
    assert always == np.mean([column.all() for column in masks.T])


def test_kept_channels_are_the_most_opened_then_the_strongest_then_the_first():
    record = SalienceRecord(
        {"a": np.array([[5, 9, 9, 5, 0, 5]])}, {"a": np.array([[1.0, 1.0, 2.0, 3.0, 0.0, 1.0]])}, np.array([9])
    )
    assert [record.kept_channels("a", 0, k).tolist() for k in range(1, 5)] == [[2], [1, 2], [1, 2, 3], [0, 1, 2, 3]]


def test_a_collector_counts_what_the_gates_opened_level_by_level():
    torch.manual_seed(0)
    network = build_network("cnn", "paper", (0.25, 0.75), 10, (1, 8, 8)).eval()
    for gate in network.gates.values():
        torch.nn.init.normal_(gate.predictor.weight)
    collector = SalienceCollector(network)
    opened = {name: np.zeros((2, gate.out_channels), int) for name, gate in network.gates.items()}
    strength = {name: np.zeros((2, gate.out_channels)) for name, gate in network.gates.items()}
    for level, count in ((0, 3), (1, 4), (0, 2)):
        network.level = level
        network(torch.rand(count, 1, 8, 8))
        collector.add()
        for name, gate in network.gates.items():
            opened[name][level] += gate.open.numpy().sum(0)
            strength[name][level] += gate.pi.detach().double().numpy().sum(0)
    record = collector.record()
    assert record.samples.tolist() == [5, 4]
    for name in network.gates:
        assert (record.opened[name] == opened[name]).all()
        np.testing.assert_allclose(record.strength[name], strength[name])
        assert record.opened[name][0].max() <= 5 and (record.opened[name][0] > 0).any()


def test_records_add_up_and_round_trip():
    one, two = record_of(np.eye(3, dtype=bool)), record_of(np.ones((2, 3), bool))
    total = one + two
    assert total.opened["a"].tolist() == [[3, 3, 3]] and total.samples.tolist() == [5]
    stored = one.tensors("client-0") | total.tensors("global")
    again = SalienceRecord.from_tensors(stored, "global")
    assert (again.opened["a"] == total.opened["a"]).all() and (again.strength["a"] == total.strength["a"]).all()
