"""The report page: its numbers are those of the runs, and it needs nothing but itself."""

import json

import pytest
from report_page import Page, round_rows

from fedgate.cli import main
from fedgate.train.report.command import write_report
from fedgate.train.report.measure import Measurer
from fedgate.train.report.text import percent, quantity


def test_summary_holds_the_numbers_of_metrics(page, runs):
    table = page[0].rows[1:3]
    for row, run in zip(table, runs, strict=True):
        rounds = round_rows(run)
        up, down = (sum(r[key] for r in rounds) for key in ("bytes_up", "bytes_down"))
        last, best = rounds[-1]["accuracy"], max(r["accuracy"] for r in rounds)
        first = next(i for i, r in enumerate(rounds) if r["accuracy"] >= 0.05)
        until = sum(r["bytes_up"] + r["bytes_down"] for r in rounds[: first + 1])
        until_seconds = sum(r["simulated_seconds"] for r in rounds[: first + 1])
        seconds = sum(r["simulated_seconds"] for r in rounds)
        expected = [2, last, best, up, down, up + down, seconds, rounds[-1]["macs_per_sample"]]
        worst = row.pop(3)
        assert row == [*expected, first + 1, until, until_seconds]
        assert worst == min(Measurer().measure(run).client_accuracy)  # of three clients the lowest tenth is one
    by_level = page[0].rows[4]
    assert by_level == round_rows(runs[1])[-1]["accuracy_by_level"]


def test_numbers_as_people_read_them():
    assert [quantity(n, "bytes") for n in (0, 999, 1000, 2050096, 73.4e6, 4.2e11)] == [
        *("0 bytes", "999 bytes", "1.00 kB", "2.05 MB", "73.4 MB", "420 GB")
    ]
    assert [quantity(n, "seconds") for n in (37, 90, 150, 7200)] == ["37 s", "90 s", "2.50 min", "2.00 h"]
    assert [percent(f) for f in (0.97, 0.985, 1)] == ["97 %", "98.5 %", "100 %"]


def test_json_is_the_same_summary(page, runs):
    _, result, _ = page
    for row, run in zip(result["runs"], runs, strict=True):
        rounds = round_rows(run)
        assert row["final"] == rounds[-1]["accuracy"] and row["rounds"] == 2
        assert row["bytes"] == sum(r["bytes_up"] + r["bytes_down"] for r in rounds)
    json.dumps(result, allow_nan=False)


def test_what_differs_is_marked(page, runs):
    found, _, _ = page
    configs = [json.loads((run / "config.json").read_text())["config"] for run in runs]
    differing = [key for key in configs[0] if configs[0][key] != configs[1][key]]
    assert sorted(differing) == ["density", "gate"]
    assert len(found.all("mark")) == len(differing)


def test_page_needs_nothing_but_itself(page):
    found, _, _ = page
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in found.elements}
    assert "http:" not in found.text and "https:" not in found.text and "@import" not in found.text
    for _, attributes in found.elements:
        for key in ("src", "href", "xlink:href"):
            address = attributes.get(key, "#")
            assert address.startswith("data:image/png;base64,") or address == "#" or address[1:] in ids
    used = {part.split(")")[0] for part in found.text.split("url(#")[1:]}
    assert used and used <= set(ids)


def test_the_same_runs_give_the_same_page(page, runs, tmp_path):
    write_report(runs, tmp_path / "again.html", target=0.05)
    assert (tmp_path / "again.html").read_text() == page[0].text


def test_the_command(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["report", *map(str, runs), "--no-evaluate", "--target", "0.05", "--json"])
    result = json.loads(capsys.readouterr().out)
    assert ended.value.code == 0 and result["target"] == 0.05 and Page("report.html").figures
    for arguments, words in (
        (["nowhere"], "no such folder"),
        (["."], "it has no config.json"),
        ([str(runs[0]), "--out", "."], "it is a folder"),
        ([str(runs[0]), "--target", "7"], "7"),
        ([], "RUN"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["report", *arguments])
        out, err = capsys.readouterr()
        assert ended.value.code in (1, 2) and out == "" and err.count("\n") == 1 and words in err
