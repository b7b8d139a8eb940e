"""The inbox as a folder: what is read, what is left alone, where files go, and how they come back."""

import dataclasses
import os
import tracemalloc

import pytest

from fedgate.device_runtime.errors import FedgateError
from fedgate.train.server import inbox as inbox_module
from fedgate.train.server.inbox import Inbox


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def used(inbox, letter):
    """The letter as a round that uses it has it."""
    return dataclasses.replace(letter, blob=inbox.read(letter))


def test_only_whole_files_are_read(folder):
    (folder / "phone.safetensors").write_bytes(b"whole")
    (folder / "phone.safetensors.part").write_bytes(b"hal")
    (folder / ".other.safetensors").write_bytes(b"ha")
    (folder / "sub.safetensors").mkdir()
    (folder / "link.safetensors").symlink_to(folder / "phone.safetensors")
    os.mkfifo(folder / "pipe.safetensors")
    (folder / "note.txt").write_bytes(b"?")
    inbox = Inbox(folder, "r")
    (letter,) = inbox.letters(100)
    assert letter.name == "phone.safetensors" and inbox.read(letter) == b"whole"
    assert {line["file"]: line["reason"] for line in inbox.told} == {
        "sub.safetensors": "it is left alone: Is a directory",
        "link.safetensors": "it is left alone: it is a link",
        "pipe.safetensors": "it is left alone: it is no file",
    }


def test_a_huge_file_is_neither_read_nor_hashed(folder):
    with open(folder / "huge.safetensors", "wb") as file:
        file.truncate(2**40)  # hashing a terabyte of holes takes hours
    (letter,) = Inbox(folder, "r").letters(1000)
    assert letter.too_large


def test_files_are_not_held_in_memory(folder):
    for i in range(20):
        (folder / f"{i}.safetensors").write_bytes(bytes([i]) * 2**20)
    inbox = Inbox(folder, "r")
    tracemalloc.start()
    assert len(inbox.letters(2**21)) == 20
    assert tracemalloc.get_traced_memory()[1] < 2**21
    tracemalloc.stop()


def test_a_round_reads_a_bounded_number_and_every_file_has_its_turn(folder, monkeypatch):
    monkeypatch.setattr(inbox_module, "MOST_FILES", 3)
    for i in range(12):
        (folder / f"{i}.safetensors").write_bytes(bytes([i]))
    inbox, seen = Inbox(folder, "r"), set()
    for round_ in range(40):
        letters = inbox.letters(100, round_)
        assert len(letters) == 3 and letters == inbox.letters(100, round_)
        seen |= {letter.name for letter in letters}
    assert len(seen) == 12
    monkeypatch.setattr(inbox_module, "MOST_FILES", 100)
    monkeypatch.setattr(inbox_module, "MOST_BYTES", 5)
    assert len(inbox.letters(100)) == 5


def test_a_file_that_changes_is_left_for_the_next_round(folder):
    inbox, path = Inbox(folder, "r"), folder / "a.safetensors"
    path.write_bytes(b"first")
    (letter,) = inbox.letters(100)
    path.write_bytes(b"other")
    assert inbox.read(letter) is None
    path.unlink()
    path.symlink_to("/etc/passwd")
    assert inbox.read(letter) is None


def test_letters_come_in_the_order_of_their_content(folder):
    for name, content in (("a", b"1"), ("b", b"2"), ("c", b"3")):
        (folder / f"{name}.safetensors").write_bytes(content)
    inbox = Inbox(folder, "r")
    order = [inbox.read(letter) for letter in inbox.letters(10)]
    for name, content in (("a", b"3"), ("b", b"1"), ("c", b"2")):
        (folder / f"{name}.safetensors").write_bytes(content)
    assert order == [inbox.read(letter) for letter in inbox.letters(10)]


def test_moved_files_come_back_with_an_earlier_checkpoint(folder):
    inbox = Inbox(folder, "r")
    before = {"good.safetensors": b"good", "bad.safetensors": b"bad", "later.safetensors": b"later"}
    for name, content in before.items():
        (folder / name).write_bytes(content)
    letters = {letter.name: letter for letter in inbox.letters(10)}
    assert inbox.move(used(inbox, letters["good.safetensors"]), 4) is None
    assert inbox.move(letters["bad.safetensors"], 5, "it is bad") is None
    filed = files(folder)
    assert sorted(filed.values()) == [b"bad", b"good", b"it is bad\n", b"later"]
    (bad,) = folder.glob("refused/r-00005/*-bad.safetensors")
    assert bad.with_name(bad.name + ".reason").read_text() == "it is bad\n"
    for path in (folder / "refused", bad.parent, folder / "used"):
        assert path.stat().st_mode & 0o777 == 0o700
    inbox.restore(5)
    assert files(folder) == filed
    Inbox(folder, "another").restore(0)
    assert files(folder) == filed
    inbox.restore(4)
    assert files(folder).keys() == filed.keys() - {str(bad.relative_to(folder))} - {
        str(bad.relative_to(folder)) + ".reason"
    } | {"bad.safetensors"}
    inbox.restore(3)
    assert files(folder) == before


def test_nothing_is_lost_when_a_sender_uses_a_name_again(folder):
    inbox, path = Inbox(folder, "r"), folder / "phone.safetensors"
    path.write_bytes(b"first")
    (first,) = inbox.letters(10)
    first = used(inbox, first)
    aside = folder / "phone.part"
    aside.write_bytes(b"second")
    os.replace(aside, path)
    inbox.move(first, 1)
    assert sorted(files(folder).values()) == [b"first", b"second"] and path.read_bytes() == b"second"
    inbox.restore(0)
    assert sorted(inbox.read(letter) for letter in inbox.letters(10)) == [b"first", b"second"]


def test_a_sender_may_take_a_file_back(folder):
    inbox, path = Inbox(folder, "r"), folder / "phone.safetensors"
    path.write_bytes(b"used")
    (letter,) = inbox.letters(10)
    letter = used(inbox, letter)
    path.unlink()
    inbox.move(letter, 1)
    assert list(files(folder).values()) == [b"used"]


def test_a_killed_move_leaves_nothing_odd(folder):
    target = folder / "refused" / "r-00003"
    target.mkdir(parents=True)
    (target / ".0123-bad.safetensors.reason.abc").write_bytes(b"it is")
    (target / "0123456789abcdef-bad.safetensors.reason").write_bytes(b"it is bad\n")
    Inbox(folder, "r").restore(2)
    assert files(folder) == {} and not target.exists()


@pytest.mark.parametrize("kind", ["link", "file", "foreign"])
def test_used_and_refused_that_are_not_ours(folder, tmp_path, kind):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("used", "refused"):
        if kind == "link":
            (folder / name).symlink_to(elsewhere)
        elif kind == "file":
            (folder / name).write_bytes(b"")
        elif os.geteuid() == 0:
            (folder / name).mkdir()
            os.chown(folder / name, 65534, 65534)
        else:
            pytest.skip("only root can make a folder of another user")
    (folder / "a.safetensors").write_bytes(b"a")
    inbox = Inbox(folder, "r")
    (letter,) = inbox.letters(10)
    assert "it cannot be moved to used/" in inbox.move(letter, 1)
    assert inbox.letters(10) == []  # told once, and not looked at again
    inbox.restore(0)
    assert list(elsewhere.iterdir()) == [] and (folder / "a.safetensors").read_bytes() == b"a"


def test_odd_names(folder):
    names = ["x" * 243 + ".safetensors", "caf\udce9.safetensors", "-rf.safetensors", "a\nb.safetensors"]
    for name in names:
        (folder / name).write_bytes(name.encode("utf-8", "surrogateescape"))
    inbox = Inbox(folder, "r")
    letters = inbox.letters(1000)
    assert sorted(letter.name for letter in letters) == sorted(names)
    assert all(letter.shown.isprintable() and letter.shown.isascii() for letter in letters)
    for letter in letters:
        assert inbox.move(letter, 1, "why") is None
    inbox.restore(0)
    assert sorted(files(folder).values()) == sorted(n.encode("utf-8", "surrogateescape") for n in names)


def test_a_missing_folder(tmp_path):
    with pytest.raises(FedgateError, match="no such folder"):
        Inbox(tmp_path / "none", "r")
