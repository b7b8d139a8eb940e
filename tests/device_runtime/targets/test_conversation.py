"""Copying and running over a session with a Python of this machine: what is whole, what is sent, what is refused."""

import ast
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedgate.device_runtime.errors import FedgateError, UsageError
from fedgate.device_runtime.formats.checks import canonical_json
from fedgate.device_runtime.targets import agent
from fedgate.device_runtime.targets.conversation import (
    BOOTSTRAP,
    Facts,
    LostConnectionError,
    Session,
    parse_answer,
    parse_facts,
)
from fedgate.device_runtime.targets.remote import check, folder_files
from fedgate.device_runtime.targets.results import parse_result

FACTS = Facts((3, 11, 2), "/usr/bin/python3", "aarch64", "/c", (), ("ai_edge_litert",))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "fedgate" / "device"


@pytest.fixture
def session(cache):
    """A function that starts a session with this Python; all are closed at the end."""
    started = []

    def start():
        started.append(Session([sys.executable, "-c", BOOTSTRAP], "here"))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture
def files(tmp_path):
    """Six files of 3 MB."""
    made = {}
    for number in range(6):
        path = made[f"folder/{number}"] = tmp_path / str(number)
        path.write_bytes(os.urandom(3 << 20))
    return made


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_copy_is_whole_and_sent_once(session, cache, files):
    here = session()
    place, sent = here.put("data", files)
    assert sent == 6 * (3 << 20) and contents(Path(place)) == {name: path.read_bytes() for name, path in files.items()}
    assert os.stat(cache).st_mode & 0o077 == 0  # it may hold the user's pictures
    assert here.put("data", files) == (place, 0) == session().put("data", files)
    (Path(place) / "folder/3").write_bytes(b"damaged")
    assert here.put("data", files)[0] == place
    assert contents(Path(place))["folder/3"] == files["folder/3"].read_bytes()
    assert [path.name for path in cache.iterdir()] == [Path(place).name]


def test_a_copy_that_was_cut_has_no_name_and_goes_on_where_it_was(session, cache, files, monkeypatch):
    first, arrived = session(), lambda: [p for p in cache.glob("part-*/*") if not p.name.startswith("tmp-")]
    stream = first._stream

    def cut(path, length):
        if len(arrived()) >= 3:  # the far side dies with the fourth file on its way
            threading.Timer(0.05, first._process.kill).start()
            first._send(path.read_bytes()[: length // 2])
            first._process.wait(20)
        return stream(path, length)

    monkeypatch.setattr(first, "_stream", cut)
    with pytest.raises(LostConnectionError):
        first.put("data", files)
    assert not list(cache.glob("data-*")) and 3 <= len(arrived()) < 6
    whole = len(arrived())
    place, sent = session().put("data", files)
    assert sent == (6 - whole) * (3 << 20)
    assert contents(Path(place)) == {name: path.read_bytes() for name, path in files.items()}
    assert [path.name for path in cache.iterdir()] == [Path(place).name]


def test_a_file_that_changes_while_it_is_copied(session, cache, files, monkeypatch):
    here = session()
    monkeypatch.setattr("fedgate.device_runtime.targets.conversation.sha256_file", lambda path: "0" * 64)
    with pytest.raises(FedgateError, match=r"'folder/0' changed while it was copied"):
        here.put("data", files)
    assert not list(cache.glob("data-*"))


def test_names_of_any_kind(session, tmp_path):
    folder = tmp_path / "pictures"
    names = ["-rf", "$(touch x)", "`touch x`", "a\nb", "'\"", " ", "\\", "#;&|<>*?", "grün", "\udcff"]
    for number, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        (folder / name / f"{name}.png").write_bytes(bytes([number]))
    place, _ = session().put("data", folder_files(folder))
    assert contents(Path(place)) == contents(folder) and len(contents(folder)) == len(names)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk(session, cache, files):
    cache.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", cache], check=True)
    try:
        with pytest.raises(FedgateError, match=r"no space left in .*: 18\.9 MB needed, 8\.4 MB free") as caught:
            session().put("data", files)
        assert "\n" not in str(caught.value)
        here = session()
        here.ask("put", name="data-0", files=[["a", 4 << 20, "0" * 64]])  # free space is seen, and gone a moment later
        (cache / "other").write_bytes(bytes(6 << 20))
        here._send(bytes(4 << 20))
        with pytest.raises(FedgateError, match=r"no space left in .* has"):
            here._answer()
        assert [path.name for path in cache.iterdir()] == ["other"]  # what a copy took that cannot end is given back
    finally:
        subprocess.run(["umount", cache], check=True)


def test_what_runs_there_ends_with_the_connection(session, tmp_path):
    (tmp_path / "fedgate").mkdir()
    (tmp_path / "fedgate" / "__main__.py").write_text(
        "import os, sys, time, pathlib\npathlib.Path(sys.argv[1]).write_text(str(os.getpid()))\ntime.sleep(600)"
    )
    here, told = session(), tmp_path / "pid"
    here._send(json.dumps({"do": "run", "arguments": [str(told)], "environment": {}, "code": str(tmp_path)}).encode())
    here._send(b"\n")
    deadline = time.monotonic() + 60
    while not (told.exists() and told.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    here.close()
    while Path(f"/proc/{told.read_text()}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_output_and_status_come_as_they_are(session, tmp_path):
    (tmp_path / "fedgate").mkdir()
    (tmp_path / "fedgate" / "__main__.py").write_text(
        "import sys\nprint(sys.argv[1:])\nprint('one\\rtwo\\n\\x1b[31mthree', file=sys.stderr)\nsys.exit(7)"
    )
    words, lines = ["--json", "$(x)", "a b", "-", "'\n"], []
    assert session().run(words, {}, str(tmp_path), lines.append) == (7, f"{words}\n")
    assert lines == ["one", "two", "\\x1b[31mthree"]


def test_what_a_command_wrote_is_fetched_once_it_has_ended(session, cache, tmp_path):
    (tmp_path / "fedgate").mkdir()
    (tmp_path / "fedgate" / "__main__.py").write_text(
        "import os, pathlib, sys\nout = pathlib.Path(sys.argv[1])\n(out / 'work').mkdir(parents=True)\n"
        "(out / 'a.bin').write_bytes(os.urandom(3_000_000))\n(out / 'link').symlink_to('/etc/passwd')\nprint('{}')"
    )
    first = session()
    out = f"{first.facts.cache}/out-1"
    assert first.run([out], {}, str(tmp_path), print, out) == (0, "{}\n")
    written = (Path(out) / "a.bin").read_bytes()
    first.close()  # lost before anything was fetched: the command has ended, and is not run again
    second = session()
    assert second.run([out], {}, str(tmp_path), print, out) == (0, "{}\n")
    second.fetch(out, tmp_path / "here")
    assert contents(tmp_path / "here") == {"a.bin": written} and not Path(out).exists()


def test_a_far_side_that_is_none_of_ours():
    for command, text in (
        ([sys.executable, "-c", "print('{}')"], "closed"),
        (["sh", "-c", "echo no >&2; exit 3"], "^no$"),
        (["sh", "-c", "yes"], "prints too much"),
    ):
        with pytest.raises(FedgateError, match=text):
            Session(command, "there")


def test_the_agent_is_read_by_a_python_that_is_too_old():
    """So that it can say so: 3.6 is the oldest that any device still has."""
    ast.parse(Path(agent.__file__).read_text(), feature_version=(3, 6))
    with pytest.raises(FedgateError, match=r"^pi: /usr/bin/python3 is Python 3\.9\.2; name a 3\.11 or newer"):
        check("pi", Facts((3, 9, 2), "/usr/bin/python3", "aarch64", "/c", ("numpy",), ()))
    with pytest.raises(FedgateError, match=r"lacks numpy, Pillow, ai-edge-litert; .*: pip install numpy Pillow ai"):
        check("pi", Facts((3, 11, 2), "/usr/bin/python3", "aarch64", "/c", ("numpy", "PIL"), ()))
    check("pi", FACTS)


def test_how_a_command_ended():
    with pytest.raises(UsageError, match=r"^pi: no such runtime$"):
        parse_result("bench", 2, "", "fedgate: no such runtime", "pi")
    with pytest.raises(FedgateError, match=r"^pi: the command was killed by SIGKILL; it may have run out of memory$"):
        parse_result("bench", -9, "{", "", "pi")
    with pytest.raises(FedgateError, match=r"^pi: the command ended with status 1$"):
        parse_result("verify", 1, "", "", "pi")
    shown = parse_result("verify", 1, '{"programs": [{"reason": "\\u001b[2J"}]}', "fedgate: x", "pi")
    assert shown == {"programs": [{"reason": "\\x1b[2J"}]}
    for text in ("", "[]", "{}", '{"programs": 1}'):
        with pytest.raises(FedgateError):
            parse_result("verify", 0, text, "", "pi")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
HELLO = {
    "python": [3, 11, 2],
    "executable": "/p",
    "machine": "m",
    "cache": "/c",
    "missing": [],
    "runtimes": ["executorch"],
}


@given(st.binary() | JSON.map(lambda value: canonical_json(value).encode()))
def test_any_answer_is_read_or_refused(data):
    try:
        assert isinstance(parse_answer(data, "there"), dict)
    except FedgateError as error:
        assert "there" in str(error)


@given(st.dictionaries(st.sampled_from(sorted(HELLO)), JSON))
def test_any_facts_are_read_or_refused(changes):
    try:
        facts = parse_facts(HELLO | changes, "there")
        assert len(facts.python) == 3 and facts.machine.isprintable() and set(facts.runtimes) <= set(agent.RUNTIMES)
    except FedgateError as error:
        assert "there" in str(error)


@given(st.sampled_from(["verify", "bench"]), st.integers(-70, 3), st.text() | JSON.map(canonical_json), st.text())
def test_any_result_is_read_or_refused(command, status, output, last):
    try:
        assert isinstance(parse_result(command, status, output, last, "there"), dict)
    except FedgateError as error:
        assert str(error)


def test_no_ssh_is_told_with_its_package(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "fedgate", "verify", "x.fedgate", "--target", "ssh:pi"],
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "apt install openssh-client" in done.stderr
