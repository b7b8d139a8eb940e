"""Names that somebody else chose are text: on the terminal, in a log and on a page they do nothing, and can be read."""

import contextlib
import html.parser
import io
import json
import logging
import os
import shutil
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from processes import COMMAND, ENVIRONMENT

from fedgate.cli import main
from fedgate.device_runtime.tables import PlainConsole, print_predictions, print_verification, table
from fedgate.device_runtime.targets.results import failure
from fedgate.device_runtime.text import LogFormatter, printable
from fedgate.train.config.file import toml_value
from fedgate.train.engines.flower.messages import Answer, read_answer, write_answer
from fedgate.train.engines.flower.service import unit_text
from fedgate.train.server.progress import RoundProgress

PIECES = (
    *("[bold]", "[/]", "[/bold]", "[link=https://example.org]x[/link]", "[red on blue]", ":smile:", "[@click=f]"),
    *("\x1b[2J", "\x1b]0;title\x07", "\x1b]8;;file:///x\x1b\\", "\x9b31m", "\x90", "\x07", "\x08", "\x7f", "\x00"),
    *("\r", "\n", "\nfedgate: done", "\r\n", "\v", "\f", "\x85", "\u2028", "\u2029", "\t"),
    *("\u202e", "\u2066", "\u200b", "\ufeff", "\U000e0041", "\udcff", "\udc80", "\udc1b"),
    *(
        "<script>alert(1)</script>",
        "</title>",
        "]]>",
        "&lt;",
        "{0}",
        "{name}",
        "%s",
        "%(x)s",
        "$x$",
        "'",
        '"',
        "\\",
        "é",
    ),
)
TEXTS = st.lists(st.sampled_from(PIECES) | st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).map(
    "".join
)
# what a folder can be called: bytes that need not be UTF-8
NAMES = (
    TEXTS.map(lambda text: os.fsencode(text.replace("/", "|").replace("\0", "").replace("\udc1b", ""))[:120])
    .map(os.fsdecode)
    .filter(lambda name: name.strip(".") and not name.startswith("-"))
)
UTF8 = NAMES.filter(lambda name: not any("\ud800" <= c <= "\udfff" for c in name))
FEW = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))


def told(*arguments):
    """Run a command in this process: its status, and what it printed, stdout and stderr as one text."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return caught.value.code, out.buffer.getvalue().decode("utf-8") + err.buffer.getvalue().decode("utf-8")


def assert_plain(text, *names):
    assert [c for c in text if not (c.isprintable() or c == "\n")] == []
    for name in names:
        assert printable(name) in text, (name, text)


@given(TEXTS)
def test_printable_keeps_what_can_be_read_and_escapes_the_rest(text):
    shown = printable(text)
    assert shown.isprintable() and shown.encode("utf-8")
    assert printable(shown) == shown and (shown == text) == text.isprintable()
    assert "".join(c for c in text if c.isprintable() and c != "\\") in shown or not text.isprintable()


@given(TEXTS, st.booleans())
def test_a_console_shows_text(text, terminal):
    file = io.StringIO()
    out = PlainConsole(file=file, width=1000, force_terminal=terminal, color_system=None)
    out.print(text)
    made = table(text, title=text)
    made.add_row(text)
    out.print(made)
    with out.status(text):
        out.print(f"in between {text}")
    shown = file.getvalue()
    if terminal:  # the cursor is rich's, and moves for the status alone
        shown = "".join(part for part in shown.split("\x1b[") if printable(text) in part)
    else:
        assert_plain(shown)
    assert shown.count(printable(text)) >= 4 or text.isspace()


@FEW
@given(UTF8)
def test_commands_that_fail_say_the_name_in_one_line(name):
    missing = f"/nowhere/{name}"
    for words in (
        ["inspect", missing],
        ["verify", missing],
        ["predict", missing, missing],
        ["evaluate", missing],
        ["train", "--resume", missing],
        ["train", "--out", "/nowhere/x", "--data", missing],
        ["train", "--out", "/nowhere/x", "--model", name],
        ["train", "--out", "/nowhere/x", "--config", missing],
        ["train", "--out", "/nowhere/x", "--partition", name],
        ["export", missing, "--out", "/nowhere/y"],
        ["deploy", missing, "--target", f"ssh:{name} "],
        ["bench", missing, "--target", f"adb:{name} "],
        ["kernels", "build", "--target", f"{name} "],
        [f"{name} "],
    ):
        status, text = told(*words)
        assert status in (1, 2)
        assert text.startswith("fedgate: ") and text.count("\n") == 1 and text.endswith("\n")
        assert_plain(text, name)


@FEW
@given(NAMES)
def test_names_that_are_no_utf8(name):
    for words in (["inspect", name], ["train", "--resume", name], ["--debug", "inspect", name], ["report", name]):
        status, text = told(*words)
        assert status in (1, 2) and text
        assert_plain(text)


@settings(FEW, max_examples=4)
@given(UTF8)
def test_a_bundle_and_a_run_of_any_name(bundle, undisturbed, tmp_path, name):
    here = tmp_path / name
    here.mkdir(exist_ok=True)
    for source, to in ((bundle, here / "b.fedgate"), (undisturbed.path, here / "run")):
        if not to.exists():
            shutil.copytree(source, to)
    for words in (
        ["inspect", here / "b.fedgate"],
        ["verify", here / "b.fedgate", "--runtime", "onnx"],
        ["report", here / "run", "--no-evaluate", "--out", here / "r.html"],
    ):
        status, text = told(*words)
        assert status == 0, text
        assert_plain(text)
    assert_plain(text, name)


class Reader(html.parser.HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, tuple(key for key, _ in attributes)))

    def handle_data(self, data):
        self.text += data


@settings(FEW, max_examples=3)
@given(TEXTS)
def test_a_page_holds_text_and_no_tag_of_anybody_else(undisturbed, tmp_path, text):
    """The name of a run, of its options, of its classes: in tables, captions, SVG and the page's title."""

    def page(name):
        run = tmp_path / "runs" / "run"
        shutil.rmtree(run.parent, ignore_errors=True)
        shutil.copytree(undisturbed.path, run)
        document = json.loads((run / "config.json").read_text())
        document["config"] |= {"model": name, "data": name}
        document["data"]["name"] = name
        document["data"]["labels"] = [f"{name}{i}" for i in range(10)]
        (run / "config.json").write_text(json.dumps(document))
        status, told_ = told("report", run, "--no-evaluate", "--out", tmp_path / "r.html")
        assert status == 0, told_
        return Reader((tmp_path / "r.html").read_text("utf-8"))

    text = "".join(c for c in text if not "\ud800" <= c <= "\udfff")[:20] + "x"
    plain, hostile = page("x"), page(text)
    assert hostile.tags == plain.tags
    assert [c for c in hostile.text if not (c.isprintable() or c in "\n\t")] == []


@pytest.mark.parametrize("name", ["[bold]a[b]\x1b[31m\nfedgate: \u202e", "caf\udce9 :smile:"])
def test_real_processes(bundle, tmp_path, name):
    here = tmp_path / name
    here.mkdir()
    shutil.copytree(bundle, here / "b.fedgate")
    for words, status in (
        (["inspect", here / "b.fedgate"], 0),
        (["inspect", here / "c.fedgate"], 1),
        (["predict", here / "b.fedgate", here / "none.png"], None),  # the bundle's name is looked at first
        (["train", "--data", here, "--rounds", "1", "--out", here / "run"], None),
        (["--debug", "verify", here / "c.fedgate"], 1),
    ):
        done = subprocess.run([*COMMAND, *words], capture_output=True, env=ENVIRONMENT, timeout=300)
        assert status is None or done.returncode == status, done.stderr
        assert done.returncode in (0, 1, 2)
        text = (done.stdout + done.stderr).decode("utf-8")
        assert_plain(text, *([name] if status == 1 else []))
        assert "UnicodeEncodeError" not in text


@given(TEXTS)
def test_what_is_printed_of_results(text):
    program = {"file": text, "status": text, "compared": 0, "runs": 0, "decisions": 0, "close_calls": 0}
    layer = {"layer": text, "open": [0], "channels": 2}
    image = {"image": text, "class": text, "probability": 1.0, "asked_macs": 1, "asked_share_of_dense": 1.0}
    result = {"density": None, "model": text, "program": text, "runtime": text, "role": text}
    with contextlib.redirect_stdout(io.StringIO()) as out:
        print_verification([program | {"max_error": None, "reason": text}])
        print_predictions(result | {"images": [image | {"layers": [layer]}]})
    assert_plain(out.getvalue())
    assert printable(text) in out.getvalue()


@given(TEXTS)
def test_a_rounds_reason_and_a_devices_last_words(text):
    row = {"round": 1, "loss": None, "accuracy": None, "mask_overlap": None, "images_per_cpu_second": 1, "reason": text}
    with contextlib.redirect_stderr(io.StringIO()) as err, RoundProgress(1) as progress:
        progress.update(row)
    assert_plain(err.getvalue(), text)
    assert err.getvalue().count("\n") == 1
    with contextlib.redirect_stderr(io.StringIO()) as err, pytest.raises(SystemExit):
        from fedgate.cli import fail

        fail(str(failure(1, text or "x", "pi")), 1)
    assert err.getvalue().count("\n") == 1
    assert_plain(err.getvalue())
    answer = read_answer(*write_answer(Answer(error=text)))
    assert answer.error == printable(text)[:1000]


@given(TEXTS)
def test_a_log_has_a_line_a_record(text):
    record = logging.LogRecord("fedgate.node", logging.WARNING, __file__, 1, "it said %s", (text,), None)
    line = LogFormatter("%(asctime)s %(message)s").format(record)
    assert line.isprintable() and line.endswith(printable(f"it said {text}"))
    try:
        raise ValueError(text)
    except ValueError:
        record.exc_info = sys.exc_info()
    assert_plain(LogFormatter("%(message)s").format(record))


@given(TEXTS.filter(lambda text: not any("\ud800" <= c <= "\udfff" for c in text)))
def test_a_file_of_options_holds_any_text_that_is_one(text):
    import tomllib

    assert toml_value(text).isprintable()
    assert tomllib.loads(f"a = {toml_value(text)}") == {"a": text}


@given(TEXTS)
def test_a_unit_has_no_line_of_anybody_elses(text):
    from fedgate.device_runtime.errors import UsageError

    usual = unit_text("a client", ["fedgate", "client"])
    try:
        made = unit_text("a client", ["fedgate", "client", "--data", text])
    except UsageError:
        assert not text.isprintable()
    else:
        assert made.count("\n") == usual.count("\n") and text.isprintable()
