"""The links of benchmarks/flower.py: rate, delay, queue and loss of one direction, by hand."""

import importlib.util
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "benchmarks/links.py"
spec = importlib.util.spec_from_file_location("links", PATH)
links = importlib.util.module_from_spec(spec)
spec.loader.exec_module(links)


def test_packets_wait_for_the_rate_and_then_for_the_delay():
    link = links.Direction(None, rate=8e6, delay=0.05, loss=0.0, seed=0)
    assert link.arrival(1.0, 1000) == pytest.approx(1.051)
    assert link.arrival(1.0, 1000) == pytest.approx(1.052)  # behind the first
    assert link.arrival(2.0, 500) == pytest.approx(2.0505)


def test_a_full_queue_drops():
    link = links.Direction(None, rate=8e3, delay=0.0, loss=0.0, seed=0)
    assert [link.arrival(0.0, 400) for _ in range(4)] == [0.4, 0.8, None, None]


def test_a_share_is_lost_after_it_took_its_time():
    link = links.Direction(None, rate=8e6, delay=0.0, loss=0.25, seed=0)
    arrivals = [link.arrival(1e9, 1000) for _ in range(400)]
    assert 70 < arrivals.count(None) < 130
    assert link.free == pytest.approx(1e9 + 0.4)


def test_no_rate_is_a_wire():
    assert links.Direction(None, rate=0.0, delay=0.0, loss=0.0, seed=0).arrival(3.0, 1500) == 3.0
