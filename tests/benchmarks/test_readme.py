"""README's and docs' figures are those of the stored results; how a wrong, missing or unsourced one is found."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
BENCHMARKS = REPOSITORY / "benchmarks"

from phrases import Phrase, corrected, places, unsourced  # noqa: E402

PAGE = """# Speed

It takes **0.83** of the time
of eager PyTorch, and 1,024 bytes. On two cores, `--rounds 3.5`.

| network | ratio |
|---|---|
| small | 0.50 |
| large | never |
"""
SPEED = Phrase("takes {:.2f} of the time of eager PyTorch, and {:,} bytes", (0.83, 1024))
TABLE = Phrase("| network | ratio |\n|---|---|\n| small | {:.2f} |\n| large | {} |", (0.5, "never"))


def test_pages_have_the_figures_of_the_results():
    done = subprocess.run([sys.executable, BENCHMARKS / "readme.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, f"python benchmarks/readme.py --check\n{done.stderr}"


@pytest.mark.parametrize("path", sorted((BENCHMARKS / "results").glob("*.json")), ids=lambda path: path.stem)
def test_a_result_tells_command_and_machine_and_no_date_or_folder(path):
    text = path.read_text()
    rows = json.loads(text)
    assert rows and all(list(row)[-3:] == ["command", "machine", "versions"] for row in rows)
    (command,) = {row["command"] for row in rows}
    assert not re.search(r"\d{4}-\d\d-\d\d|\d\d:\d\d", text)
    assert not re.search(r"(?<!PATH)(?<!TO)(?<![\w.])/\w+/\w", text), "it names a folder of a machine"
    python, script, *words = command.split()
    assert python == "python" and path.stem.startswith(Path(script).stem)
    files = [REPOSITORY / script] if script.endswith(".py") else [*(REPOSITORY / script).glob("*.py")]
    assert files, f"there is no {script}"
    known = "".join(file.read_text() for file in (*files, BENCHMARKS / "kept_runs.py"))
    for word in words:
        assert not word.startswith("--") or f'"{word.split("=")[0]}' in known, f"{script} has no {word}"


def test_figures_that_are_right_stay():
    for phrase in (SPEED, TABLE):
        (place,) = places(phrase, PAGE)
        assert place.wrong(PAGE) == [] and corrected(PAGE, [place]) == PAGE


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("0.83", "0.84"), ("1,024", "1,000"), ("0.50", "0.5"), ("never", "0.30"), ("| 0.50", "| 12.25")],
)
def test_a_figure_that_is_wrong_is_found_and_corrected(right, wrong):
    page = PAGE.replace(right, wrong)
    found = [place for phrase in (SPEED, TABLE) for place in places(phrase, page)]
    assert sum(len(place.wrong(page)) for place in found) == 1
    assert corrected(page, found) == PAGE


def test_columns_of_a_listing_keep_their_ends():
    listing = " litert   skip    99.4 %    0.036\n onnx     skip   100.0 %    0.044\n"
    phrase = Phrase("litert skip {:.1f} % {:.3f} onnx skip {:.1f} % {:.3f}", (100.0, 0.036, 9.5, 10.044))
    found = places(phrase, listing)
    assert corrected(listing, found) == " litert   skip   100.0 %    0.036\n onnx     skip     9.5 %   10.044\n"


def test_other_words_are_no_place_of_a_phrase():
    assert places(SPEED, PAGE.replace("eager", "lazy")) == []
    assert places(SPEED, PAGE.replace("bytes", "bytesize")) == []
    assert len(places(SPEED, PAGE + PAGE)) == 2


def test_what_looks_measured_needs_a_phrase_or_a_setting():
    found = [place for phrase in (SPEED, TABLE) for place in places(phrase, PAGE)]
    assert unsourced(PAGE, found, ()) == []
    assert [figure for _, figure, _ in unsourced(PAGE, [], ())] == ["0.83", "1,024", "0.50"]
    more = PAGE + "\nAt density 0.5 it takes 12 ms, 3e-7 off; `0.25`, version 1.4.1, 3 rounds.\n"
    assert [(line, figure) for line, figure, _ in unsourced(more, found, ())] == [(11, "0.5"), (11, "12"), (11, "3e-7")]
    assert [figure for _, figure, _ in unsourced(more, found, (r"density \d\.\d",))] == ["12", "3e-7"]
