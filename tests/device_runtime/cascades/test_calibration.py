"""Thresholds from counts: those that all images give, as by a loop over them, and only from counts that can be."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedgate.device_runtime.cascades.counts import add, count, decode, encode
from fedgate.device_runtime.cascades.points import by_stage, outcomes, pick, threshold
from fedgate.device_runtime.cascades.scores import BINS, EDGES, bins, scores
from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.formats.tensors import pack, unpack

CLASSES = 4


def drawn(seed, images, stages):
    """Logits of stages that are right ever more often, and labels."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES, images)
    own = np.eye(CLASSES)[labels]
    logits = [random.normal(size=(images, CLASSES)) * 3 + own * 2 * (k + 1) for k in range(stages)]
    return [each.astype(np.float32) for each in logits], labels


def test_scores_are_softmaxs():
    logits = np.array([[1, 2, 3, 0], [5, 5, 0, 0], [100, 0, 0, 0], [0, 0, 0, 0]], np.float32)
    powers = np.exp(logits.astype(np.float64))
    probabilities = np.sort(powers / powers.sum(1, keepdims=True), 1)
    np.testing.assert_allclose(scores(logits), probabilities[:, -1], rtol=1e-6)
    np.testing.assert_allclose(scores(logits, "margin"), probabilities[:, -1] - probabilities[:, -2], atol=1e-6)
    assert scores(logits).dtype == np.float32 and scores(logits[:, :1], "margin").tolist() == [1.0] * 4


def test_a_bin_is_what_lies_between_two_thresholds():
    assert (np.diff(EDGES) > 0).all() and EDGES[-1] < 1
    assert bins(EDGES).tolist() == list(range(1, BINS))
    assert bins(np.array([0.0, 1.0], np.float32)).tolist() == [0, BINS - 1]
    below = np.nextafter(EDGES, np.float32(0))
    assert bins(below).tolist() == list(range(BINS - 1))
    assert [threshold(i) for i in (0, 1, BINS)] == [0.0, float(EDGES[0]), 2.0]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 60), st.integers(2, 3), st.sampled_from(["probability", "margin"]))
def test_points_by_hand(seed, images, stages, kind):
    logits, labels = drawn(seed, images, stages)
    found = [scores(each, kind) for each in logits]
    right = np.array([each.argmax(1) == labels for each in logits])
    macs = [10.0 ** (k + 1) for k in range(stages)]
    reached, gained, given_ = outcomes(by_stage(count(logits, labels, kind), stages), stages)
    random = np.random.default_rng(seed)
    for place in [tuple(random.integers(0, BINS + 1, stages - 1)) for _ in range(6)]:
        sure = [found[k] >= threshold(place[k]) for k in range(stages - 1)] + [np.ones(images, bool)]
        answering = np.array([next(k for k in range(stages) if sure[k][i]) for i in range(images)])
        mine = right[answering, np.arange(images)]
        assert [int(each[place]) for each in reached] == [(answering >= k).sum() for k in range(stages)]
        assert gained[place] == (mine & ~right[-1]).sum() and given_[place] == (~mine & right[-1]).sum()
    for point in pick(count(logits, labels, kind), macs, (0.0, 0.005, 0.05)):
        sure = [found[k] >= np.float32(point.thresholds[k]) for k in range(stages - 1)] + [np.ones(images, bool)]
        answering = np.array([next(k for k in range(stages) if sure[k][i]) for i in range(images)])
        accuracy = right[answering, np.arange(images)].mean()
        assert point.accuracy == pytest.approx(accuracy) and accuracy >= right[-1].mean() - point.loss - 1e-9
        assert point.answered == pytest.approx([(answering == k).mean() for k in range(stages)])
        assert point.macs == pytest.approx(sum((answering >= k).mean() * macs[k] for k in range(stages)))
        assert point.lost_low <= point.lost <= point.lost_high


def test_no_thresholds_are_cheaper():
    logits, labels = drawn(3, 400, 2)
    found, right = scores(logits[0]), np.array([each.argmax(1) == labels for each in logits])
    (point,) = pick(count(logits, labels), [1.0, 9.0], (0.01,))
    for edge in (0.0, *EDGES.tolist(), 2.0):
        sure = found >= np.float32(edge)
        if np.where(sure, right[0], right[1]).mean() >= right[1].mean() - 0.01 - 1e-9:
            assert 1 + 9 * (~sure).mean() >= point.macs - 1e-9


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.lists(st.integers(0, 40), min_size=1, max_size=10), st.integers(2, 3))
def test_clients_together_count_what_all_their_images_count(seed, sizes, stages):
    logits, labels = drawn(seed, sum(sizes) + 1, stages)
    sizes = [*sizes, 1]
    ends = np.cumsum(sizes)
    tables = []
    for client, (end, size) in enumerate(zip(ends, sizes, strict=True)):
        mine = slice(end - size, end)
        blob = encode(count([each[mine] for each in logits], labels[mine]), stages, "probability", "hash", client)
        found, table = decode(blob, stages, "probability", "hash", size)
        assert found == client
        tables.append(table)
    whole = count(logits, labels)
    assert add(tables) == whole
    macs = list(range(1, stages + 1))
    assert pick(add(tables), macs, (0.0, 0.01)) == pick(whole, macs, (0.0, 0.01))


def blob_with(index=(1, 5), number=(2, 3), **meta):
    _, fields = unpack(encode({1: 2, 5: 3}, 2, "probability", "hash", 4))
    return pack({"index": np.array(index, np.uint32), "count": np.array(number, np.uint32)}, fields | meta)


@pytest.mark.parametrize(
    ("blob", "reason"),
    [
        (blob_with(images=6), "are of 5 images"),
        (blob_with(number=(2, 4)), "are of 6 images"),
        (blob_with(number=(5, 0)), "each cell of one or more"),
        (blob_with(index=(5, 1)), "in order"),
        (blob_with(index=(5, 5)), "each once"),
        (blob_with(index=(1, 4 * BINS)), "cells below"),
        (blob_with(index=(1, 5, 6)), "each once and in order"),
        (blob_with(bins=BINS + 1), "'bins'"),
        (blob_with(stages=3), "'stages'"),
        (blob_with(score="margin"), "'score'"),
        (blob_with(cascade="other"), "'cascade'"),
        (blob_with(client=-1), "'client'"),
        (blob_with(images=-5), "'images'"),
        (pack({"index": np.array([1], np.int64), "count": np.array([1], np.uint32)}, {}), "'format'"),
        (b"", "not a fedgate tensor file"),
    ],
)
def test_counts_that_cannot_be_are_refused(blob, reason):
    with pytest.raises(FedgateError, match=reason) as caught:
        decode(blob, 2, "probability", "hash")
    assert "\n" not in str(caught.value)


def test_more_images_than_a_client_has_are_refused():
    assert decode(blob_with(), 2, "probability", "hash", 5)[0] == 4
    with pytest.raises(FedgateError, match="the client holds out 4"):
        decode(blob_with(), 2, "probability", "hash", 4)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_counts_are_refused_or_are_counts(data):
    blob = bytearray(blob_with())
    for _ in range(data.draw(st.integers(1, 3))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    try:
        _, table = decode(bytes(blob), 2, "probability", "hash")
    except FedgateError as error:
        assert "\n" not in str(error)
    else:
        assert all(0 <= index < 4 * BINS and number > 0 for index, number in table.items())


def test_every_cell_is_one_of_bins_and_rights():
    """The order of axes: of an image in bin 7 that the first stage gets right, and the other does not."""
    counts = by_stage({7 * 4 + 1: 3}, 2)
    assert counts[7, 1, 0] == 3 and counts.sum() == 3
    counts = by_stage({(7 * BINS + 9) * 8 + 0b110: 2}, 3)
    assert counts[7, 9, 0, 1, 1] == 2 and counts.sum() == 2
    assert len(list(itertools.product(range(2), repeat=3))) == counts[7, 9].size
