"""The benchmark's statistics against simulation, and its rows on a real bundle."""

import numpy as np
import pytest

from fedgate.device_runtime.bench.latency import BURST, LEAST_ROUNDS, BenchOptions, bench, interleave, noise
from fedgate.device_runtime.bench.stats import median_interval, paired_ratio
from fedgate.device_runtime.board.machine import OtherLoad, machine_info, peak_rss_mb
from fedgate.device_runtime.engines import open_program
from fedgate.device_runtime.errors import UsageError
from fedgate.device_runtime.selection import Selection


def test_the_interval_covers_the_median_as_often_as_it_says():
    draw = np.random.default_rng(0)
    for n in (6, 25, 200):
        covered = 0
        for _ in range(1000):
            _, low, high = median_interval(draw.lognormal(size=n))  # the true median is 1
            covered += low <= 1 <= high
        assert 930 <= covered <= 995, n


def test_the_interval_has_its_published_ranks():
    # ranks of the 95 % interval of a median, e.g. Conover, Practical Nonparametric Statistics: n = 10: 2 and 9;
    # n = 20: 6 and 15; n = 100: 40 and 61
    for n, low, high in ((10, 2, 9), (20, 6, 15), (100, 40, 61)):
        assert median_interval(np.arange(1, n + 1))[1:] == (low, high)
    assert median_interval(np.array([5.0])) == (5, 5, 5)
    assert median_interval(np.arange(3000))[0] == 1499.5


def test_pairing_removes_the_machines_drift():
    draw = np.random.default_rng(1)
    drift = np.exp(np.cumsum(draw.normal(0, 0.2, 100)))
    ratio, low, high = paired_ratio(0.5 * drift * draw.normal(1, 0.01, 100), drift * draw.normal(1, 0.01, 100))
    assert low <= ratio <= high and ratio == pytest.approx(0.5, rel=0.01) and high - low < 0.01


def test_rows_of_a_bundle(bundle):
    result = bench(bundle, BenchOptions(Selection("litert"), rounds=15))
    rows = {row["role"]: row for row in result["rows"]}
    assert set(rows) == {"dense", "masked", "static"} and result["skipped"] == []
    assert rows["dense"]["ratio_to_dense"] == 1 and rows["dense"]["executed_macs"] == rows["dense"]["dense_macs"]
    for row in rows.values():
        assert row["rounds"] == 15 and 0 < row["p50_ms"] <= row["p90_ms"] and row["first_ms"] > 0 and row["load_ms"] > 0
        assert row["ratio_low"] <= row["ratio_to_dense"] <= row["ratio_high"]
        assert all(not isinstance(value, dict | list) for value in row.values())
        assert 10 < row["peak_rss_mb"] < 200  # of a process without torch, though this one holds it
    assert rows["masked"]["asked_macs"] < 0.4 * rows["dense"]["executed_macs"]
    assert rows["masked"]["executed_macs"] > rows["dense"]["executed_macs"]  # every channel, and the gates
    assert rows["static"]["density"] == 0.5 and rows["dense"]["density"] is None


def test_ratios_pair_with_the_dense_program_of_the_same_runtime(bundle):
    result = bench(bundle, BenchOptions(Selection(role="dense"), rounds=12))
    assert {row["runtime"] for row in result["rows"]} == {"litert", "onnx", "executorch"}
    assert [row["ratio_to_dense"] for row in result["rows"]] == [1, 1, 1]
    # a role asked for alone still gets its baseline
    dense, row = bench(bundle, BenchOptions(Selection("onnx", "masked", density=0.25), rounds=12))["rows"]
    assert dense["role"] == "dense" and row["role"] == "masked" and row["density"] == 0.25
    assert row["ratio_low"] <= row["ratio_to_dense"] <= row["ratio_high"]


class Noted:
    """A real program that also notes what it was asked to do."""

    def __init__(self, name, log, loaded):
        self.name, self.log, self.loaded, self.program = name, log, loaded, loaded.program

    def prepare(self, image, level):
        self.log.append((self.name, float(image[0, 0, 0, 0]), level))
        self.loaded.prepare(image, level)

    def invoke(self):
        self.log.append(self.name)
        self.loaded.invoke()


def test_programs_take_turns_and_the_first_one_rotates(bundle):
    log, turn = [], 1 + BURST
    programs = [p for p in bundle.manifest.programs if p.runtime == "litert" and p.role in ("masked", "dense")]
    a, b = (Noted(name, log, open_program(bundle, p)) for name, p in zip("ab", programs, strict=True))
    inputs = bundle.reference().image[:2]
    first, second = inputs[:, 0, 0, 0].tolist()
    times = interleave([(a, 0), (b, 1)], inputs, 2, 1.0)
    assert times.shape == (2, 2, BURST) and (times > 0).all()
    assert log[: 2 * turn + 2] == [("a", first, 0), *"a" * turn, ("b", first, 1), *"b" * turn]
    assert log[2 * turn + 2 :] == [("b", second, 1), *"b" * turn, ("a", second, 0), *"a" * turn]
    assert interleave([(a, 0)], inputs, None, 1e-9).shape[1] == LEAST_ROUNDS


def test_noise_is_told_with_numbers():
    quiet = {"program": "x", "p50_ms": 1, "p90_ms": 1.1, "ratio_to_dense": 0.5, "ratio_low": 0.49, "ratio_high": 0.51}
    assert noise([quiet], 0.1) == [] and noise([quiet], None) == []
    assert noise([quiet], 0.9) == ["other processes kept 0.9 cores busy"]
    assert noise([quiet | {"p90_ms": 2}], None) == ["x: p90 is 2.0 times p50"]
    assert noise([quiet | {"ratio_high": 0.6}], None) == ["x: the ratio's 95 % interval is 22% wide"]


def test_wrong_numbers_are_refused(bundle):
    for options in ({"threads": 0}, {"rounds": 0}, {"seconds": 0}):
        with pytest.raises(UsageError):
            bench(bundle, BenchOptions(**options))


def test_machine_facts():
    info = machine_info()
    assert info["cpu"] and info["cores"] >= 1 and info["litert"].startswith("ai-edge-litert ")
    others = OtherLoad().cores()
    assert others is None or others >= 0
    assert peak_rss_mb() > 10
