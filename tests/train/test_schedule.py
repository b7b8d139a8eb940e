import pytest

from fedgate.train.server.schedule import densities_at, learning_rate_at


def test_densities_fall_linearly_to_their_targets():
    assert [densities_at((0.5, 1.0), r, 8, 0.5) for r in (0, 1, 2, 3)] == [
        (1.0, 1.0),
        (0.875, 1.0),
        (0.75, 1.0),
        (0.625, 1.0),
    ]
    # reached exactly: 1 - (1 - 0.7) is not 0.7 in floating point everywhere
    assert all(densities_at((0.7, 0.9), r, 8, 0.5) == (0.7, 0.9) for r in range(4, 8))


def test_no_schedule_is_the_target_from_the_start():
    assert densities_at((0.25,), 0, 10, 0.0) == (0.25,)


def test_learning_rates():
    assert [learning_rate_at(0.1, r, 4, "constant") for r in range(4)] == [0.1] * 4
    cosine = [learning_rate_at(0.1, r, 4, "cosine") for r in range(4)]
    assert cosine[0] == 0.1 and cosine[2] == pytest.approx(0.05) and cosine == sorted(cosine, reverse=True)


def test_the_exponential_rate_counts_the_epochs_of_an_average_client():
    # two local epochs a round, half of the clients in each: one epoch a round and client
    rates = [learning_rate_at(0.8, r, 4, "exponential", 0.5, 0.5 * 2) for r in range(4)]
    assert rates == [0.8, 0.4, 0.2, 0.1]
    assert learning_rate_at(0.01, 10, 100, "exponential", 0.99, 20) == pytest.approx(0.01 * 0.99**200)
