"""Simulated time, against arithmetic by hand."""

import math

import numpy as np
import pytest

from fedgate.device_runtime.errors import UsageError
from fedgate.device_runtime.formats.macs import Layer
from fedgate.train.config.resolve import resolve
from fedgate.train.config.values import parse_rate, parse_spread
from fedgate.train.server.clocks import Clocks, client_speeds, make_clocks, training_macs

LAYERS = (
    Layer("a", "conv", 3, 8, (3, 3), (4, 4), gate=True),
    Layer("b", "conv", 8, 4, (1, 1), (4, 4), input_gate="a"),
)


def forward(kept):
    """MACs of LAYERS where `kept` of the first layer's 8 channels are open: its conv and predictor, the second conv."""
    return 3 * kept * 9 * 16 + 3 * 8 + kept * 4 * 16


def test_links():
    found = [parse_rate(text) for text in ("10Mbit", "0.5Mbit", "64kbit", "1Gbit", "300bit")]
    assert found == [1e7, 5e5, 64e3, 1e9, 300.0]


@pytest.mark.parametrize(
    "text", ["", "10", "Mbit", "10MB", "0Mbit", "-1Mbit", "nanMbit", "infMbit", "1e400Mbit", "10 Mb"]
)
def test_wrong_links(text):
    with pytest.raises(UsageError, match="no speed of a link"):
        parse_rate(text)


def test_training_costs_three_forward_passes_and_a_teachers():
    assert training_macs(LAYERS, (0.5,)) == 3 * forward(4)
    assert training_macs(LAYERS, (0.25, 0.5, 1.0), level=1) == 3 * forward(4)
    costs = [3 * forward(2) + forward(8), 3 * forward(4) + forward(8), 3 * forward(8)]
    assert training_macs(LAYERS, (0.25, 0.5, 1.0)) == pytest.approx(sum(costs) / 3)


def test_seconds_by_hand():
    clocks = Clocks(np.array([1.0, 0.5]), 2e9, uplink=1e7, downlink=5e7)
    assert clocks.receiving(1_000_000) == 0.16 and clocks.sending(1_000_000) == 0.8
    assert clocks.training(0, 4e9) == 2.0 and clocks.training(1, 4e9) == 4.0


def test_speeds_are_log_normal_or_in_a_range():
    even = client_speeds(0, 5, parse_spread("0"))
    assert even.tolist() == [1.0] * 5
    logs = np.log(client_speeds(0, 4000, parse_spread("0.5")))
    assert abs(logs.mean()) < 4 * 0.5 / math.sqrt(4000) and logs.std() == pytest.approx(0.5, rel=0.05)
    spread = client_speeds(0, 4000, parse_spread("0.25:4"))
    assert 0.25 <= spread.min() < 0.26 and 3.9 < spread.max() <= 4 and np.median(spread) == pytest.approx(1, rel=0.1)
    assert client_speeds(1, 5, (0.5,)).tolist() == client_speeds(1, 5, (0.5,)).tolist()
    assert client_speeds(1, 5, (0.5,)).tolist() != client_speeds(2, 5, (0.5,)).tolist()


@pytest.mark.parametrize("text", ["", "fast", "-1", "9", "2:1", "0:1", "1:2:3", "nan", "1:nan"])
def test_wrong_spreads(text):
    with pytest.raises(UsageError, match="--speed-spread"):
        parse_spread(text)


def test_the_clocks_of_a_configuration():
    clocks = make_clocks(resolve(clients=3, client_speed=0.5, uplink="1Mbit", downlink="2Mbit"))
    assert clocks.training(2, 1e9) == 2.0 and clocks.sending(125_000) == 1.0 and clocks.receiving(125_000) == 0.5
