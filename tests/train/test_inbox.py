"""The inbox as a folder: what is read, what is left alone, where files go, and how they come back."""

import os
import tracemalloc

import pytest

from fedgate.device_runtime.errors import FedgateError
from fedgate.train.inbox import Inbox


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_only_whole_files_are_read(folder):
    (folder / "phone.safetensors").write_bytes(b"whole")
    (folder / "phone.safetensors.part").write_bytes(b"hal")
    (folder / ".other.safetensors").write_bytes(b"ha")
    (folder / "sub.safetensors").mkdir()
    (folder / "link.safetensors").symlink_to(folder / "phone.safetensors")
    os.mkfifo(folder / "pipe.safetensors")
    (folder / "note.txt").write_bytes(b"?")
    (letter,) = Inbox(folder, "r").letters(100)
    assert letter.path.name == "phone.safetensors" and letter.blob == b"whole"


def test_a_huge_file_is_not_read_into_memory(folder):
    with open(folder / "huge.safetensors", "wb") as file:
        file.truncate(2**28)
    tracemalloc.start()
    (letter,) = Inbox(folder, "r").letters(1000)
    assert letter.blob is None and tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_letters_come_in_the_order_of_their_content(folder):
    for name, content in (("a", b"1"), ("b", b"2"), ("c", b"3")):
        (folder / f"{name}.safetensors").write_bytes(content)
    order = [letter.blob for letter in Inbox(folder, "r").letters(10)]
    for name, content in (("a", b"3"), ("b", b"1"), ("c", b"2")):
        (folder / f"{name}.safetensors").write_bytes(content)
    assert order == [letter.blob for letter in Inbox(folder, "r").letters(10)]


def test_moved_files_come_back_with_an_earlier_checkpoint(folder):
    inbox = Inbox(folder, "r")
    before = {"good.safetensors": b"good", "bad.safetensors": b"bad", "later.safetensors": b"later"}
    for name, content in before.items():
        (folder / name).write_bytes(content)
    letters = {letter.blob: letter for letter in inbox.letters(10)}
    inbox.move(letters[b"good"], 4)
    inbox.move(letters[b"bad"], 5, "it is bad")
    filed = files(folder)
    assert sorted(filed.values()) == [b"bad", b"good", b"it is bad\n", b"later"]
    (bad,) = folder.glob("refused/r-00005/*-bad.safetensors")
    assert bad.with_name(bad.name + ".reason").read_text() == "it is bad\n"
    assert inbox.used() == {letters[b"good"].digest[:16]: 4}
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
    aside = folder / "phone.part"
    aside.write_bytes(b"second")
    os.replace(aside, path)
    inbox.move(first, 1)
    assert sorted(files(folder).values()) == [b"first", b"second"] and path.read_bytes() == b"second"
    inbox.restore(0)
    assert sorted(letter.blob for letter in inbox.letters(10)) == [b"first", b"second"]


def test_a_sender_may_take_a_file_back(folder):
    inbox, path = Inbox(folder, "r"), folder / "phone.safetensors"
    path.write_bytes(b"used")
    (letter,) = inbox.letters(10)
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


def test_a_missing_folder(tmp_path):
    with pytest.raises(FedgateError, match="no such folder"):
        Inbox(tmp_path / "none", "r")
