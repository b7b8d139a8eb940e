"""What clients hold out: their own images, some of every class, the same whoever asks, and never one that trains."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedgate.cli import main
from fedgate.train.config.resolve import resolve
from fedgate.train.data.holdout import hold_out
from fedgate.train.ingredients import client_images, prepare


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.0, 0.9), st.lists(st.integers(0, 60), min_size=1, max_size=5))
def test_each_client_keeps_its_images_apart(seed, share, sizes):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, sum(sizes) + 3)
    order = np.split(random.permutation(sum(sizes)), np.cumsum(sizes)[:-1])
    parts = [np.sort(part) for part in order]
    trained, held = hold_out(labels, parts, share, seed)
    for part, mine, kept in zip(parts, trained, held, strict=True):
        assert np.array_equal(np.sort(np.concatenate([mine, kept])), part)
        assert len(mine) > 0 or len(part) == 0
        assert all(np.array_equal(each, np.sort(each)) for each in (mine, kept))
        for label in np.unique(labels[part]):
            n, out = (labels[part] == label).sum(), (labels[kept] == label).sum()
            assert share * n - 1 <= out + (len(mine) == 1) and out <= share * n + 1
    again = hold_out(labels, parts, share, seed)
    assert all(np.array_equal(a, b) for a, b in zip(held, again[1], strict=True))


def test_shares_are_right_on_average_where_classes_are_small():
    labels = np.repeat(np.arange(400), 3)
    _, held = hold_out(labels, np.split(np.arange(1200), 40), 0.1, 0)
    assert sum(map(len, held)) == pytest.approx(120, abs=30)


def test_nothing_is_held_out_without_being_asked_for():
    parts = [np.arange(5), np.arange(5, 9)]
    trained, held = hold_out(np.zeros(9), parts, 0.0, 0)
    assert all(np.array_equal(a, b) for a, b in zip(trained, parts, strict=True)) and all(
        len(each) == 0 for each in held
    )


def test_a_run_trains_on_the_others(tmp_path):
    config = resolve(holdout=0.2, clients=3, rounds=1)
    data, parts = prepare(config)
    trained, held = client_images(config, data)
    assert all(np.array_equal(a, b) for a, b in zip(parts, trained, strict=True))
    everything, _ = prepare(resolve(clients=3, rounds=1))
    assert len(everything.train_labels) == sum(map(len, parts)) + sum(map(len, held))
    with pytest.raises(SystemExit) as done:
        main(
            ["train", "--holdout", "0.2", "--clients", "3", "--rounds", "1", "--quiet", "--out", str(tmp_path / "run")]
        )
    assert not done.value.code
    rows = [line for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines() if '"client": 1' in line]
    assert f'"examples": {len(trained[1])}' in rows[0]
