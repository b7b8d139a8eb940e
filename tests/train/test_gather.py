"""Whole rounds on digits: late updates, faults, the inbox; what metrics.jsonl says of them, and the state they make."""

import dataclasses
import functools
import json
import os

import numpy as np
import pytest

from fedgate.device_runtime.formats.signed import TRAILER, ClientKey, derive_key, unsigned
from fedgate.device_runtime.formats.tensors import pack, unpack
from fedgate.device_runtime.formats.update import decode_update, encode_update
from fedgate.train.config.resolve import resolve
from fedgate.train.engines.make import open_run
from fedgate.train.ingredients import describe_run, prepare
from fedgate.train.server.run_directory import RunDirectory

SMALL = {
    "clients": 4,
    "rounds": 3,
    "local_epochs": 1,
    "batch_size": 128,
    "partition": "iid",
    "density": (0.5,),
    "density_schedule": 0.0,
    "precision": "fp32",
}
prepare = functools.cache(prepare)


@pytest.fixture
def run(tmp_path):
    """A function that makes a run of options beside `SMALL`; the same folder again for the same name."""
    opened = []

    def make(name="run", workers=1, **options):
        config = resolve(**(SMALL | options))
        data, parts = prepare(config)
        path = tmp_path / name
        directory = RunDirectory.open(path) if path.exists() else RunDirectory.create(path, describe_run(config, data))
        opened.append(open_run(directory, data, parts, workers).__enter__())
        return opened[-1]

    yield make
    for each in opened:
        each.__exit__(None)


def rows(run):
    return [json.loads(line) for line in (run.directory.path / "metrics.jsonl").read_text().splitlines()]


def statuses(run, round_):
    return {row["client"]: row["status"] for row in rows(run) if row["round"] == round_ and row["client"] is not None}


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


def letter(run, client, base_round=None, **changes):
    """An update as a device would send it: it moves every weight by 0.01."""
    start = run.start()
    spec, base = start.base(run.state.round if base_round is None else base_round)
    update = dataclasses.replace(
        decode_update(start.broadcast.blob(None), start.broadcast.spec),
        client=client,
        examples=100,
        local_steps=1,
        base_round=spec.base_round,
        base_hash=spec.base_hash,
        values={name: value + np.float32(0.01) for name, value in base.items()},
    )
    return run.senders.key(client).sign(encode_update(dataclasses.replace(update, **changes), spec, base))


def send(folder, name, blob):
    (folder / "part").write_bytes(blob)
    os.replace(folder / "part", folder / f"{name}.safetensors")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def test_letters_join_the_round(run, folder):
    one = run(clients=2, inbox=str(folder), max_staleness=1)
    for name, client in (("a", 7), ("b", 8)):
        send(folder, name, letter(one, client))
    send(folder, "again", letter(one, 7, samples=(1,)))  # a second one of the same client
    (folder / "half.part").write_bytes(b"half")
    first = letter(one, 9)
    row = one.round()
    assert row["updates"] == 4 and statuses(one, 1) == dict.fromkeys((0, 1, 7, 8), "used")
    (line,) = [row for row in rows(one) if row["client"] == 8]
    assert line["file"] == "b.safetensors" and line["bytes_up"] == len(first) and line["bytes_down"] == 0
    assert len(list(folder.glob("used/*/*"))) == 2 and (folder / "half.part").exists()
    assert len(list(folder.glob("*.safetensors"))) == 1  # for the next round
    send(folder, "late", first)
    row = one.round()
    assert row["updates"] == 4 and statuses(one, 2) == dict.fromkeys((0, 1, 7, 9), "used")
    send(folder, "stale", letter(one, 10, base_round=1))
    one.round()
    assert statuses(one, 3) == dict.fromkeys((0, 1, 10), "used")
    assert list(folder.glob("*.safetensors")) == [] and list(folder.glob("refused/*/*")) == []


def test_bad_letters_are_moved_aside_with_the_reason(run, folder):
    one = run(clients=2, inbox=str(folder), max_staleness=1)
    old = letter(one, 7)
    one.round()
    one.round()
    key, file = one.senders.key(7), letter(one, 7)
    tensors, meta = unpack(unsigned(file))
    signed = {
        "early": pack(tensors, meta | {"base_round": 5}),
        "other": pack(tensors, meta | {"run": "other"}),
        "short": unsigned(file)[:-9],
        "text": b"hello",
        "empty": b"",
        "twice": file,
        "server": pack(tensors, meta | {"client": -1}),
        "hash": pack(tensors, meta | {"base_hash": "0" * 64}),
        "stolen": pack(tensors, meta | {"client": 5}),
    }
    bad = {name: key.sign(blob) for name, blob in signed.items()} | {
        "stale": old,
        "nobody": unsigned(file),
        "nothing": b"",
        "changed": bytes([file[0] ^ 1]) + file[1:],
        "forged": ClientKey(key.run, 7, bytes(32)).sign(unsigned(file)),
        "elsewhere": derive_key(one.senders.secret, "other", 7).sign(unsigned(file)),
        "renumbered": file[:-TRAILER] + (5).to_bytes(8, "little") + file[8 - TRAILER :],
        "huge number": file[:-TRAILER] + bytes([255] * 8) + file[8 - TRAILER :],
        "large": bytes(8_000_000),
    }
    forged = dict.fromkeys(("changed", "forged", "elsewhere"), "was not signed with the key of client 7")
    words = forged | {
        "nobody": "is not signed",
        "nothing": "is not signed",
        "renumbered": "was not signed with the key of client 5",
        "huge number": "was not signed with the key of client 18446744073709551615",
        "stolen": "it says that it is of client 5, and client 7 has signed it",
        "stale": "2 rounds old, and --max-staleness is 1",
        "early": "of round 5, which is not done yet",
        "other": "run is 'other'",
        "server": "is a download",
        "hash": "base_hash is",
        "large": "larger than any update",
    }
    for name, blob in bad.items():
        send(folder, name, blob)
    send(folder, "good", letter(one, 8))
    row = one.round()
    assert statuses(one, 3) == dict.fromkeys((0, 1, 8), "used")
    reasons = {each["file"]: each["reason"] for each in row["refused_files"]}
    assert set(reasons) == {f"{name}.safetensors" for name in bad}
    for name, blob in bad.items():
        (moved,) = folder.glob(f"refused/*-00003/*-{name}.safetensors")
        assert moved.read_bytes() == blob and words.get(name, "not a fedgate tensor file") in reasons[moved.name[17:]]
        assert moved.with_name(moved.name + ".reason").read_text() == reasons[moved.name[17:]] + "\n"
    assert list(folder.glob("*.safetensors")) == []


def test_without_signatures_anybody_is_one_of_the_runs_clients(run, folder):
    one = run(clients=2, inbox=str(folder), inbox_unsigned=True)
    send(folder, "anybody", unsigned(letter(one, 1)))
    send(folder, "beside", unsigned(letter(one, 2)))
    send(folder, "device", letter(one, 7))
    send(folder, "forged", ClientKey(one.info.run, 0, bytes(32)).sign(unsigned(letter(one, 0))))
    row = one.round()
    assert statuses(one, 1) == dict.fromkeys((0, 1, 7), "used")
    assert {each["file"]: each["reason"] for each in row["refused_files"]} == {
        "beside.safetensors": "it is of client 2, and the run has clients 0 to 1: others need a key",
        "forged.safetensors": "it was not signed with the key of client 0",
    }
    assert [row["file"] for row in rows(one)[:3]] == [None, "anybody.safetensors", "device.safetensors"]


def test_the_same_letter_is_not_used_twice(run, folder):
    one = run(clients=2, inbox=str(folder))
    blob = letter(one, 7)
    send(folder, "a", blob)
    send(folder, "b", blob)
    one.round()
    row = one.round()
    assert [each["reason"] for each in row["refused_files"]] == ["the same update was used in round 1"]
    assert row["updates"] == 2


def test_letters_of_a_round_that_keeps_the_state_stay(run, folder):
    one = run(clients=2, inbox=str(folder), drop_out=1.0, min_clients=2)
    send(folder, "a", letter(one, 7))
    row = one.round()
    assert "1 good update" in row["reason"] and statuses(one, 1)[7] == "waiting"
    assert (folder / "a.safetensors").exists()
    send(folder, "b", letter(one, 8))
    assert one.round()["updates"] == 2 and not (folder / "a.safetensors").exists()


def test_a_letter_speaks_for_a_simulated_client(run, folder):
    one = run(clients=2, inbox=str(folder))
    send(folder, "a", letter(one, 1))
    row = one.round()
    assert statuses(one, 1) == {0: "used", 1: "used"} and row["updates"] == 2
    assert [row["file"] for row in rows(one)[:2]] == [None, "a.safetensors"]
