"""Folders that are made once: whole, or not there."""

import threading

import pytest

from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.once import make_once


def test_a_folder_is_made_once_and_whole(tmp_path):
    made = tmp_path / "cache" / "thing"

    def interrupted(work):
        (work / "half").write_text("")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_once(made, interrupted)
    assert not made.exists()
    make_once(made, lambda work: (work / "whole").write_text("first"))
    make_once(made, lambda work: (work / "whole").write_text("second"))
    assert [path.name for path in made.iterdir()] == ["whole"] and (made / "whole").read_text() == "first"
    assert not list(made.parent.glob("*.part"))


def test_the_second_of_two_waits_for_the_first(tmp_path):
    made, waits, begun, done = tmp_path / "thing", threading.Event(), threading.Event(), []

    def slowly(work):
        begun.set()
        assert waits.wait(30)  # until the second one has met the lock
        done.append("first")

    first = threading.Thread(target=make_once, args=(made, slowly))
    first.start()
    assert begun.wait(30)
    make_once(made, lambda work: done.append("second"), waits.set)
    first.join()
    assert done == ["first"] and made.is_dir()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FedgateError, match=r"^cannot make .*thing: Not a directory|File exists$"):
        make_once(tmp_path / "file" / "thing", lambda work: None)
