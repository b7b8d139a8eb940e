"""Which clients a round draws, and at which level each of them trains."""

from collections import Counter

import pytest

from fedgate.device_runtime.errors import UsageError
from fedgate.train.config.resolve import read_config, resolve
from fedgate.train.config.values import parse_capacity
from fedgate.train.server.selection import capacity_levels, client_levels, sample_clients


def test_how_many_are_drawn():
    """As Flower counts: max(int(fraction * all), least), and no more than there are."""
    everyone = list(range(10))
    for fraction, least, available, count in (
        (1.0, 1, everyone, 10),
        (0.35, 1, everyone, 3),
        (0.0, 2, everyone, 2),
        (0.1, 4, everyone, 4),
        (0.5, 1, everyone[:3], 3),
        (0.5, 8, [], 0),
    ):
        drawn = sample_clients(0, 0, available, 10, fraction, least)
        assert len(drawn) == count and sorted(set(drawn)) == drawn and set(drawn) <= set(available)


def test_draws_depend_on_seed_and_round_alone_and_are_even():
    draws = [sample_clients(3, round_, list(range(10)), 10, 0.3, 1) for round_ in range(1000)]
    assert draws == [sample_clients(3, round_, list(range(10)), 10, 0.3, 1) for round_ in range(1000)]
    assert draws[:20] != [sample_clients(4, round_, list(range(10)), 10, 0.3, 1) for round_ in range(20)]
    counts = Counter(client for draw in draws for client in draw)
    assert all(240 < counts[client] < 360 for client in range(10))  # 300 expected, deviation 14.5


def test_capacities_by_the_largest_remainder():
    """13 clients: 3.9, 5.2 and 3.9 exactly; the two largest remainders get the two clients that are left."""
    levels = client_levels(0, 13, (0.3, 0.4, 0.3))
    assert Counter(levels.tolist()) == {0: 4, 1: 5, 2: 4}
    assert Counter(client_levels(0, 10, (0.3, 0.4, 0.3)).tolist()) == {0: 3, 1: 4, 2: 3}
    assert Counter(client_levels(5, 3, (0.9, 0.1)).tolist()) == {0: 3}
    assert client_levels(0, 13, (0.3, 0.4, 0.3)).tolist() != sorted(levels.tolist())
    assert levels.tolist() == client_levels(0, 13, (0.3, 0.4, 0.3)).tolist()


def test_capacities_are_the_densities_where_none_are_given():
    config = resolve(capacity="1.0:0.3,0.61:0.4,0.4:0.3", clients=10)
    assert config.density == (0.4, 0.61, 1.0)
    assert Counter(capacity_levels(config)) == {0: 3, 1: 4, 2: 3}
    config = resolve(capacity="0.4:1", density=(0.25, 0.4, 1.0), clients=2)
    assert capacity_levels(config) == [1, 1]
    assert capacity_levels(resolve(clients=3)) == [None, None, None]
    assert read_config(config.to_json()) == config


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no list of DENSITY:SHARE"),
        ("0.5", "no list of DENSITY:SHARE"),
        ("0.5:half", "no list of DENSITY:SHARE"),
        ("0.5:0.5,0.5:0.5", "names a density twice"),
        ("0.5:0.5,1.0:0.4", "sum to 1"),
        ("0.5:1.5,1.0:-0.5", "sum to 1"),
        ("0.5:nan,1.0:1", "sum to 1"),
    ],
)
def test_wrong_capacities(text, words):
    with pytest.raises(UsageError, match=words):
        parse_capacity(text)
    with pytest.raises(UsageError, match=words):
        resolve(capacity=text)


def test_capacities_must_be_levels():
    with pytest.raises(UsageError, match=r"unknown density of --capacity '0\.5'; known: 0\.25, 1"):
        resolve(capacity="0.5:0.5,1.0:0.5", density=(0.25, 1.0))
