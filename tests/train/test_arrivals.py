"""When rounds end and who is in time; how an update to an old state joins the present one."""

from types import SimpleNamespace

import numpy as np
import pytest

from fedgate.device_runtime.formats.update import Update, UpdateSpec
from fedgate.train.server.arrivals import Upload, bases_needed, close_round, rebased
from fedgate.train.strategies import ServerState, Strategy, round_step


def upload(client, arrives, good=True, base_round=0):
    return Upload(client, base_round, float(arrives), b"x" if good else b"", {}, good=good)


UPLOADS = [upload(0, 130), upload(1, 110), upload(2, 150, good=False), upload(3, 120), upload(4, 120, good=False)]


@pytest.mark.parametrize(
    ("deadline", "wait_for", "ended", "clients"),
    [
        (None, None, 150, [1, 3, 4, 0, 2]),
        (60, None, 150, [1, 3, 4, 0, 2]),  # nobody is waited for after the last one
        (25, None, 125, [1, 3, 4]),
        (20, None, 120, [1, 3, 4]),  # at the deadline is in time
        (5, None, 105, []),
        (None, 1, 110, [1]),
        (None, 2, 120, [1, 3]),  # client 4 arrives at the same time, but is second
        (None, 3, 130, [1, 3, 4, 0]),  # what is not good does not count
        (None, 4, 150, [1, 3, 4, 0, 2]),  # there are not four
        (25, 3, 125, [1, 3, 4]),
    ],
)
def test_a_round_ends(deadline, wait_for, ended, clients):
    when, in_time = close_round(100.0, UPLOADS, deadline, wait_for)
    assert when == ended and [each.client for each in in_time] == clients
    assert close_round(100.0, UPLOADS[::-1], deadline, wait_for) == (when, in_time)


def test_a_round_of_nobody_takes_no_time():
    assert close_round(7.0, []) == (7.0, [])


def update(client, examples, values, base_round=0):
    arrays = {name: np.asarray(value, np.float32) for name, value in values.items()}
    return Update("run", base_round, "0" * 64, client, examples, 1, (examples,), {}, arrays)


def test_a_late_update_adds_what_it_changed_to_the_present_state():
    """Client 1 moved w from 1 to 3 on a state of two rounds ago; now it stands at 10, and client 0 makes it 14."""
    present, base = {"w": np.float32([10.0]), "norm.running_var": np.float32([1.0])}, {"w": np.float32([1.0])}
    base["norm.running_var"] = np.float32([5.0])
    fresh = update(0, 30, {"w": [14.0], "norm.running_var": [1.0]}, base_round=7)
    late = rebased(update(1, 10, {"w": [3.0], "norm.running_var": [0.5]}, base_round=5), base, present)
    assert late.values["w"].tolist() == [12.0] and late.values["w"].dtype == np.float32
    assert late.values["norm.running_var"].tolist() == [0.5]  # the difference would make it -3.5
    assert (late.client, late.base_round, late.examples) == (1, 5, 10)
    shapes = dict.fromkeys(present, (1,))
    spec = UpdateSpec(shapes, dict.fromkeys(shapes, (None,)), {}, 1, "run", 7, "0" * 64)
    state, _ = round_step(ServerState(7, present), [late, fresh], Strategy(frozenset({"w"}), 2), spec, present)
    assert state.tensors["w"].tolist() == [(30 * 14 + 10 * 12) / 40]


def test_an_update_to_an_unchanged_state_is_not_changed():
    rng = np.random.default_rng(0)
    base = {"w": rng.normal(size=50).astype(np.float32)}
    values = {"w": rng.normal(size=50).astype(np.float32)}
    assert rebased(update(0, 1, values), base, base).values["w"].tobytes() == values["w"].tobytes()


def test_only_bases_that_can_still_come_are_kept():
    waiting = [SimpleNamespace(base_round=base) for base in (3, 6, 9)]
    assert bases_needed(10, waiting, 4, from_outside=False) == [6, 9]
    assert bases_needed(10, waiting, 4, from_outside=True) == [6, 7, 8, 9]
    assert bases_needed(10, [], 4, from_outside=False) == []
    assert bases_needed(2, [], 4, from_outside=True) == [0, 1]
    assert bases_needed(10, waiting, 0, from_outside=True) == []
