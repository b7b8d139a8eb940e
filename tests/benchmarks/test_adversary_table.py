"""What the adversaries send: each as its name says, and nothing else."""

import numpy as np
from adversaries import STRATEGIES, Adversary, length, scaled

from fedgate.device_runtime.formats.update import MOST, Update

NAMES = ("w.weight", "head.bias", "n.running_mean", "n.running_var")
BASE = {name: np.zeros(2, np.float32) for name in NAMES}


def update(client):
    return Update("run", 0, "0" * 64, client, 50, 4, (50,), {}, {name: np.float32([1, 2]) for name in NAMES})


OWN, OTHERS = update(0), [update(1), update(2)]


def sent(name):
    return Adversary(None, 0, name, 0).sent(OWN, OTHERS, BASE)


def test_each_sends_what_its_name_says():
    assert sent("sign flip").values["w.weight"].tolist() == [-1, -2]
    assert sent("scaled").values["w.weight"].tolist() == [-10, -20]
    assert sent("largest").values["head.bias"].min() > 2e38
    assert np.abs(sent("noise").values["w.weight"]).max() > 5
    assert sent("counts").examples == sent("counts").local_steps == MOST
    assert sent("labels") is OWN and sent("replay").values == OWN.values
    for name in ("sign flip", "scaled", "largest", "noise", "counts", "opposite"):
        assert all((sent(name).values[key] == OWN.values[key]).all() for key in NAMES if "running" in key)


def test_statistics_are_spoiled_or_shifted_by_two_deviations():
    assert sent("statistics").values["n.running_mean"].min() == 1e6
    shifted = sent("shifted").values
    assert shifted["n.running_var"].tolist() == [4, 8]
    assert np.allclose(shifted["n.running_mean"], [1 + 2, 2 + 2 * 2**0.5])
    for name in ("statistics", "shifted"):
        assert all((sent(name).values[key] == OWN.values[key]).all() for key in NAMES if "running" not in key)


def test_the_opposite_is_as_long_as_passes_whole():
    made = sent("opposite")
    assert abs(length(made, BASE) - 2 * length(OTHERS[0], BASE)) < 1e-5
    assert (made.values["w.weight"] < 0).all()


def test_all_of_the_strategies_are_known_by_name():
    assert list(STRATEGIES)[:2] == ["nobody", "nothing"] and len(STRATEGIES) == 14


def test_what_changes_from_round_to_round():
    turns, nudged = (Adversary(None, 0, name, 0) for name in ("by turns", "nudged"))
    assert [turns.sent(OWN, OTHERS, BASE).values["w.weight"].tolist() for _ in range(3)] == [[-1, -2], [1, 2], [-1, -2]]
    first = nudged.sent(OWN, OTHERS, BASE)
    assert abs(length(first, OWN.values) - length(OTHERS[0], BASE)) < 1e-4
    later = nudged.sent(scaled(OWN, BASE, 5), OTHERS, BASE)
    assert abs(length(later, OWN.values) - length(OTHERS[0], BASE)) < 1e-4
    assert (first.values["w.weight"] != later.values["w.weight"]).any()
