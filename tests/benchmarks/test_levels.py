"""The table of one network for several densities against a network for each."""

from levels import compare


def test_points_lost_by_level():
    alone = {0.5: [{"accuracy_by_level": [a]} for a in (0.1, 0.6, 0.6, 0.9)], 1.0: [{"accuracy_by_level": [0.8]}] * 3}
    together = [{"accuracy_by_level": pair} for pair in ([0, 0], [0.7, 0.5], [0.7, 0.5], [0.4, 0.8])]
    half, whole = compare((0.5, 1.0), alone, together)
    assert (half["density"], half["level"], whole["density"], whole["level"]) == (0.5, 0, 1.0, 1)
    assert abs(half["alone"] - 0.7) < 1e-12 and abs(half["levels"] - 0.6) < 1e-12  # the last three rounds
    assert abs(half["lost"] - 10) < 1e-9 and abs(whole["lost"] - 20) < 1e-9
