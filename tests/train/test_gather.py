"""Whole rounds on digits: late updates, faults, the inbox; what metrics.jsonl says of them, and the state they make."""

import dataclasses

import numpy as np
import pytest
from whole_rounds import rows, statuses

from fedgate.device_runtime.formats.update import decode_update


def test_simulated_time_by_hand(run):
    one = run(rounds=1, uplink="1Mbit", downlink="2Mbit", client_speed=0.5, speed_spread="0.5")
    row = one.round()
    clients = rows(one)[:-1]
    for each in clients:
        macs = 3 * each["macs_per_sample"] * each["examples"]  # one epoch
        seconds = each["bytes_down"] * 8 / 2e6 + macs / (0.5e9 * one.clocks.speeds[each["client"]])
        assert each["simulated_seconds"] == pytest.approx(seconds + each["bytes_up"] * 8 / 1e6)
    assert row["simulated_seconds"] == max(each["simulated_seconds"] for each in clients)
    assert row["simulated_hours"] == row["simulated_seconds"] / 3600


def test_levels_by_capacity(run):
    one = run(rounds=1, density=None, capacity="1.0:0.5,0.25:0.5")
    one.round()
    for row in rows(one)[:-1]:
        level = one.client_levels[row["client"]]
        samples = one.salience[f"client-{row['client']}"].samples
        assert row["level"] == level and samples[level] == row["examples"] and samples[1 - level] == 0
    costs = {row["level"]: row["macs_per_sample"] for row in rows(one)[:-1]}
    assert sorted(one.client_levels) == [0, 0, 1, 1] and costs[0] < 0.5 * costs[1]


def test_a_late_update_joins_the_next_round(run):
    """Three of four are waited for; the fourth is busy in the next round, and joins it with what it had changed."""
    one = run(wait_for=3, speed_spread="1", max_staleness=1, upload="full")
    first = one.state.tensors
    one.round()
    before, (late,) = one.state.tensors, one.waiting
    assert sorted(one.bases) == [0] and statuses(one, 1)[late.client] == "waiting"
    update = decode_update(late.blob, *one.start().base(0))
    assert late.arrives > one.clock
    one.clock = late.arrives  # so that it comes within the second round whatever the speeds are
    second = one.round()
    assert statuses(one, 2) == dict.fromkeys(range(4), "used") and second["updates"] == 4
    (row,) = [row for row in rows(one) if row["round"] == 2 and row["client"] == late.client]
    assert row["base_round"] == 0 and row["bytes_up"] == 0 and one.waiting == [] and one.bases == {}
    # without it the round would have made this much of one weight; its share is that of its examples
    name = "features.3.conv.weight"
    moved = update.values[name].astype(np.float64) - first[name]
    total = sum(row["examples"] for row in rows(one) if row["round"] == 2 and row["client"] is not None)
    alone = run("alone", wait_for=3, speed_spread="1", max_staleness=0, upload="full")
    alone.state, alone.waiting = dataclasses.replace(one.state, round=1, tensors=before), [late]
    alone.bases, alone.clock = {0: first}, late.arrives
    drawn = [c for c in range(4) if c != late.client]
    start = alone.start()
    results = alone.engine.train([start.task(client) for client in drawn])
    others = [decode_update(result.blob, *start.base(1)) for result in results]
    wanted = sum(other.examples * other.values[name].astype(np.float64) for other in others)
    wanted = (wanted + update.examples * (before[name] + moved)) / total
    assert np.abs(one.state.tensors[name] - wanted).max() < 1e-6


def test_an_update_that_is_too_old_is_refused_and_its_client_is_free_again(run):
    one = run(wait_for=3, speed_spread="1", max_staleness=0)
    one.round()
    (late,) = one.waiting
    assert one.bases == {}  # nothing may refer to it
    one.round()
    lines = [row for row in rows(one) if row["round"] == 2 and row["client"] == late.client]
    assert len(lines) == 2 and lines[0]["status"] == "refused"
    assert lines[0]["reason"] == "its base is 1 rounds old, and --max-staleness is 0"


def test_a_deadline_that_nobody_meets_keeps_the_state(run):
    one = run(rounds=2, deadline=1e-3, max_staleness=1000)
    before = one.state.tensors
    row = one.round()
    assert one.state.round == 1 and one.state.tensors is before and len(one.waiting) == 4
    assert row["reason"] == "0 good updates, and --min-clients is 1: the state is kept"
    assert row["updates"] == 0 and row["loss"] is None and row["simulated_seconds"] == pytest.approx(1e-3)
    row = one.round()  # all are busy: it waits for the next arrival, at most until the deadline
    assert row["simulated_seconds"] == pytest.approx(1e-3) and len(one.waiting) == 4


def test_too_few_good_updates_keep_the_state_and_wait(run):
    one = run(min_clients=4, garbage=0.4, seed=1, max_staleness=3)
    before = one.state.tensors
    row = one.round()
    refused = [client for client, status in statuses(one, 1).items() if status == "refused"]
    assert refused and "min-clients is 4: the state is kept" in row["reason"]
    assert one.state.tensors is before and len(one.waiting) == 4 - len(refused)
    assert {s for c, s in statuses(one, 1).items() if c not in refused} == {"waiting"}
    one.round()
    assert set(statuses(one, 2)) == set(range(4))


def test_an_engine_may_give_its_results_in_any_order(run):
    plain, other = run("plain", rounds=1), run("other", rounds=1)
    train = other.engine.train
    other.engine.train = lambda tasks: reversed(list(train(tasks)))
    for one in (plain, other):
        one.round()
    assert all(other.state.tensors[name].tobytes() == value.tobytes() for name, value in plain.state.tensors.items())
    assert [row["client"] for row in rows(other)] == [0, 1, 2, 3, None]


def test_who_drops_out_gets_bytes_and_sends_none(run):
    one = run(rounds=1, drop_out=0.5, min_clients=1)
    row = one.round()
    lines = rows(one)[:-1]
    gone = [line for line in lines if line["status"] == "dropped"]
    assert 0 < len(gone) < 4 and all(line["bytes_up"] == 0 < line["bytes_down"] for line in gone)
    assert all(line["loss"] is None and line["seconds"] == 0 for line in gone)
    assert row["examples"] == sum(line["examples"] for line in lines if line["status"] == "used")
    assert row["updates"] == 4 - len(gone)


# The inbox
