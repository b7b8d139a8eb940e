"""README's and docs' tables are those of the stored results; how a page that differs from them is found."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
BENCHMARKS = REPOSITORY / "benchmarks"

import figures  # noqa: E402
import readme  # noqa: E402
from demo import read_rows  # noqa: E402
from unsourced import MEASURED, NOT_PROSE, SETTINGS, unsourced  # noqa: E402

MADE = {
    ("table", "speed"): "| network | ratio |\n|---|---|\n| small | 0.50 |\n| large | never |\n",
    ("listing", "run"): "```\nround 1  0.4 s\n```\n",
}
PAGE = """# Speed

<!-- table: speed -->
| network | ratio |
|---|---|
| small | 0.50 |
| large | never |
<!-- end -->

The small one takes half of the time. On two cores, `--rounds 3.5`:

<!-- listing: run -->
```
round 1  0.4 s
```
<!-- end -->
"""


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


def test_a_page_with_the_tables_that_are_made_stays():
    assert readme.compare({"page.md": PAGE}, MADE) == ({"page.md": PAGE}, [])


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("| 0.50", "| 0.51"),
        ("| large | never |\n", ""),
        ("| large | never |\n", "| large | never |\n| huge | 0.30 |\n"),
        ("0.4 s", "0.5 s"),
    ],
)
def test_a_table_that_differs_is_found_and_written_anew(right, wrong):
    better, told = readme.compare({"page.md": PAGE.replace(right, wrong)}, MADE)
    assert len(told) == 1 and re.match(r"page\.md:\d+: the (table 'speed'|listing 'run') has ", told[0])
    assert better == {"page.md": PAGE}


def test_markers_alone_are_filled_in_every_page():
    empty = re.sub(r" -->\n(?:.+\n)+?<!-- end", " -->\n<!-- end", PAGE)
    assert "0.50" not in empty and empty.count("<!-- end -->") == 2
    better, _ = readme.compare({"a.md": empty, "b.md": empty}, MADE)
    assert better == {"a.md": PAGE, "b.md": PAGE}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("table: speed", "table: sped", "page.md:3: there is no table 'sped' (speed)"),
        ("table: speed", "tables: speed", "page.md:3: there is no tables 'speed'"),
        ("listing: run", "table: run", "page.md:12: there is no table 'run' (speed)"),
        ("| large | never |\n<!-- end -->", "| large | never |", "page.md:3: <!-- table: speed --> is no marker"),
        ("| large | never |\n<!-- end -->", "| large | never |<!-- end -->", "page.md:3: <!-- table: speed --> is no"),
        ("<!-- table: speed -->\n", "", "page.md:7: <!-- end --> is no marker"),
        ("<!-- table: speed -->", "<!--table:speed-->", "page.md:3: <!--table:speed--> is no marker"),
    ],
)
def test_a_marker_that_is_wrong_is_told_with_its_line(old, new, told):
    page = PAGE.replace(old, new)
    better, wrong = readme.compare({"page.md": page}, MADE)
    assert any(line.startswith(told) for line in wrong), wrong
    assert better == {"page.md": page}


def test_a_table_that_stands_in_no_page_is_told():
    page = PAGE.replace("<!-- listing: run -->\n", "").replace("```\n<!-- end -->", "```")
    assert readme.compare({"page.md": page}, MADE)[1] == ["no page has <!-- listing: run -->"]


def test_results_that_are_missing_or_unused_are_told(tmp_path):
    for path in (BENCHMARKS / "results").glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "train_step.json").rename(tmp_path / "another.json")
    made, wrong = readme.made_tables(tmp_path)
    assert wrong == [
        "table training-step: there is no benchmarks/results/train_step.json",
        "benchmarks/results/another.json: no table is made of it",
    ]
    assert ("table", "training-step") not in made and ("table", "levels") in made


def test_a_figure_of_a_result_that_changes_changes_its_table(tmp_path):
    for path in (BENCHMARKS / "results").glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    rows = json.loads((tmp_path / "train_step.json").read_text())
    (tmp_path / "train_step.json").write_text(json.dumps([row | {"ratio_to_eager": 7.654} for row in rows]))
    before, after = (readme.made_tables(folder)[0] for folder in (BENCHMARKS / "results", tmp_path))
    assert "7.65" in after["table", "training-step"]
    assert [key for key in before if before[key] != after[key]] == [("table", "training-step")]


def test_what_looks_measured_in_prose_is_told():
    page = PAGE + "\nAt density 0.5 it takes 12 ms, 41% of dense, 1.5x, 3e-7 off; `0.25`, version 1.4.1, 3 rounds.\n"
    figures_of = [figure for _, figure, _ in unsourced(readme.MARKED.sub("", page), ())]
    assert figures_of == ["0.5", "12", "41", "1.5", "3e-7"]
    wrong = readme.compare({"page.md": page}, MADE)[1]
    assert [line.split(" looks")[0] for line in wrong] == [f"page.md:18: {f}" for f in ("12", "41", "1.5", "3e-7")]


def test_a_table_without_markers_has_no_source_either():
    page = PAGE.replace("<!-- table: speed -->\n", "").replace("never |\n<!-- end -->", "never |")
    assert (
        "page.md:5: 0.50 looks measured, so it belongs into a table: | small | 0.50 |"
        in readme.compare({"page.md": page}, MADE)[1]
    )


def test_every_setting_stands_in_a_page():
    paths = [path for pattern in readme.PAGES for path in REPOSITORY.glob(pattern)]
    pages = [NOT_PROSE.sub(lambda match: readme.blank(match[0]), path.read_text()) for path in paths]
    for setting in SETTINGS:
        found = [match[0] for page in pages for match in re.finditer(setting, page)]
        assert any(MEASURED.search(text) for text in found), f"{setting} excuses nothing"


def test_a_table_has_as_many_cells_in_every_row():
    assert figures.as_table(iter([("a", "b"), ("1", "")])) == "| a | b |\n|---|---|\n| 1 |  |\n"
    with pytest.raises(ValueError, match="cells"):
        figures.as_table([("a", "b"), ("1",)])


def test_the_listing_of_the_demo_has_every_figure_of_its_result():
    rows = [
        {key: value for key, value in row.items() if key not in ("command", "machine", "versions")}
        for row in json.loads((BENCHMARKS / "results" / "demo.json").read_text())
    ]
    printed = figures.registered()["listing", "demo"].function(rows)
    assert read_rows("\n".join(f"{line} " if line.startswith(" ") else line for line in printed.splitlines())) == rows
