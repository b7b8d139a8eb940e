"""What became of a round's clients: each judgement is a new value, and the one before stays as it was."""

import dataclasses

import pytest

from fedgate.train.server.arrivals import Upload
from fedgate.train.server.inbox import Letter
from fedgate.train.server.outcome import ClientOutcome, Turnout


def upload(client):
    return Upload(client, 3, 10.0 + client, b"", {})


def letter(name):
    return Letter(f"{name}.safetensors", (0, 0, 0), name)


def turnout():
    """Letters of clients 8 and 7, a stale update of client 1, who answers anew, and clients who are late or gone."""
    return Turnout(
        (
            ClientOutcome(8, "used", 2, source=letter("b")),
            ClientOutcome(7, "used", 3, source=letter("a")),
            ClientOutcome(1, "refused", 0, "it is old"),
            ClientOutcome(0, "used", 3, source=upload(0)),
            ClientOutcome(1, "used", 3, source=upload(1)),
            ClientOutcome(2, "waiting", 3, source=upload(2)),
            ClientOutcome(3, "dropped", 3),
        ),
        waiting=(upload(2), upload(5)),
        refused=((letter("bad"), "it is bad"),),
        ended=20.0,
    )


def statuses(turnout):
    return [(outcome.client, outcome.status) for outcome in turnout.outcomes]


def test_nobody_changes_what_another_has_decided():
    one = turnout()
    before = statuses(one)
    one.refuse({8: "no", 1: "no"})
    one.bounded({7: "cut"})
    one.keep_for_later()
    assert statuses(one) == before and len(one.refused) == 1 and len(one.waiting) == 2
    assert all(outcome.bounded == () for outcome in one.outcomes)
    for value, name in ((one, "ended"), (one.outcomes[0], "status")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, name, None)


def test_refused_updates_are_neither_used_nor_kept():
    one = turnout().refuse({1: "too long", 7: "turned"})
    assert [outcome.client for outcome in one.used] == [8, 0] and len(one.waiting) == 2
    assert [(each.client, each.reason) for each in one.outcomes if each.status == "refused"] == [
        (7, "turned"),
        (1, "it is old"),
        (1, "too long"),
    ]
    assert [(each.name, why) for each, why in one.letters] == [
        ("b.safetensors", None),
        ("bad.safetensors", "it is bad"),
        ("a.safetensors", "turned"),
    ]


def test_what_was_not_taken_adds_up():
    one = turnout().bounded({0: "many examples"}).bounded({0: "too long", 8: "many steps"})
    assert {each.client: each.bounded for each in one.used} == {
        8: ("many steps",),
        7: (),
        0: ("many examples", "too long"),
        1: (),
    }


def test_a_round_that_uses_nothing_keeps_uploads_and_leaves_letters_where_they_are():
    one = turnout().keep_for_later()
    assert one.used == [] and [each.client for each in one.waiting] == [2, 5, 0, 1]
    assert {client for client, status in statuses(one) if status == "waiting"} == {0, 1, 2, 7, 8}
    assert [each.name for each, _ in one.letters] == ["bad.safetensors"]
    assert one.ended == 20.0
