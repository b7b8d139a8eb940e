"""Rounds with an inbox: whose letters join, which are refused and why, and which stay for a later round."""

import dataclasses
import os

import numpy as np
import pytest
from whole_rounds import rows, statuses

from fedgate.device_runtime.formats.signed import TRAILER, ClientKey, derive_key, unsigned
from fedgate.device_runtime.formats.tensors import pack, unpack
from fedgate.device_runtime.formats.update import decode_update, encode_update


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
