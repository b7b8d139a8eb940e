"""The app's strips, charts and numbers, as the shapes and words that a screen gets."""

import json
import math

import numpy as np
import pytest


@pytest.fixture
def ask(harness, tmp_path):
    def run(questions):
        (tmp_path / "questions.json").write_text(json.dumps(questions))
        return json.loads(harness.run("org.fedgate.harness.Drawing", str(tmp_path / "questions.json")))

    return run


def test_a_strip_shows_the_open_share_of_every_group_of_neighbours(ask):
    rng = np.random.default_rng(0)
    masks = [rng.integers(0, 2, size).astype(bool) for size in (1, 7, 64, 100, 101, 512)]
    most = [3, 7, 10, 64, 109]
    cases = [(mask, count) for mask in masks for count in most]
    found = ask([["groups", mask.tolist(), count] for mask, count in cases])
    for (mask, count), shares in zip(cases, found, strict=True):
        expected = [group.mean() for group in np.array_split(mask, min(count, len(mask)))]
        assert shares == pytest.approx(expected, rel=1e-6)
    for mask, shapes in zip(masks, ask([["strip", mask.tolist(), 300] for mask in masks]), strict=True):
        groups = np.array_split(mask, min(100, len(mask)))  # 300 dp, 3 for a bar
        opened = [shape for shape in shapes if shape[-1] == "OPEN"]
        assert [shape[0] for shape in shapes] == ["box"] * len(shapes)
        assert len(shapes) - len(opened) == len(groups)  # a stump for each
        assert sum(24 - shape[2] for shape in opened) == pytest.approx(24 * sum(g.mean() for g in groups), rel=1e-5)
        assert all(0 <= left < right <= 300 and 0 <= top < low <= 24 for _, left, top, right, low, _ in shapes)


def test_ticks_are_round_even_told_apart_and_around_the_values(ask):
    rng = np.random.default_rng(1)
    spans = [(0.0, 10.0 ** rng.uniform(-6, 6)) for _ in range(200)] + [
        (0.0, 0.0),
        (2.0, 2.0),
        (-1.5, 0.3),
        (0.0, 1e-12),
    ]
    for (low, high), (ticks, words) in zip(spans, ask([["ticks", *span] for span in spans]), strict=True):
        step = ticks[1] - ticks[0]
        assert np.diff(ticks) == pytest.approx(step)
        assert ticks[0] <= low + 1e-9 * step and ticks[-1] >= high - 1e-9 * step
        assert 2 <= len(ticks) <= 9
        digit = step / 10 ** math.floor(math.log10(step) + 1e-9)
        assert min(abs(digit - round_one) for round_one in (1, 2, 5)) < 1e-6
        assert len(set(words)) == len(words) and [float(word) for word in words] == pytest.approx(ticks, abs=step / 100)


def test_numbers_have_three_digits_and_a_prefix(ask):
    values = [0.0514, 4.214, 42.14, 318.4, 999.6, 1794688, 0.4251, 1.0]
    assert ask([["numbers", value] for value in values]) == [
        ["0.051 ms", "0", "5.1 %"],
        ["4.21 ms", "4", "421.4 %"],
        ["42.1 ms", "42", "4214 %"],
        ["318 ms", "318", "31840 %"],
        ["1000 ms", "1.00 k", "99960 %"],
        ["1794688 ms", "1.79 M", "179468800 %"],
        ["0.425 ms", "0", "42.5 %"],
        ["1.00 ms", "1", "100 %"],
    ]


def test_bars_are_as_long_as_their_values_and_curves_stay_between_their_axes(ask):
    (height, shapes), curve, gap, one, nothing = ask(
        [
            ["bars", [[1.0, 1.5], [0.25, 2.0]]],
            ["curves", [2.0, 1.0, 0.5, 1.0]],
            ["curves", [2.0, None, 0.5, 1.0]],
            ["curves", [2.0]],
            ["curves", [None]],
        ]
    )
    boxes = [shape for shape in shapes if shape[0] == "box"]
    assert [box[3] - box[1] for box in boxes] == pytest.approx([149, 298 / 8])  # of 300, less a pixel at either end
    assert max(max(shape[1][1::2]) for shape in shapes if shape[0] == "line") <= height

    def lines(shapes):
        return [shape[1] for shape in shapes if shape[0] == "line" and shape[-1] == "FIRST"][1:]  # after the legend's

    (drawn,) = lines(curve)
    x, y = drawn[::2], drawn[1::2]
    assert np.diff(x) == pytest.approx((x[-1] - x[0]) / 3) and x[-1] <= 300
    (top, bottom) = (edge([s[1][1] for s in curve if s[0] == "line" and s[-1] == "FAINT"]) for edge in (min, max))
    assert y == pytest.approx([bottom - (bottom - top) * value / 2 for value in (2.0, 1.0, 0.5, 1.0)])
    assert [len(points) for points in lines(gap)] == [2, 4]  # a dot, and a line
    assert [len(points) for points in lines(one)] == [2]
    assert nothing == []
