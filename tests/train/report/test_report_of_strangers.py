"""The report shows runs that are unfinished, older, damaged or hostile as far as they are to be believed."""

import shutil

import pytest
from report_page import round_rows, shown

from fedgate.device_runtime.errors import FedgateError
from fedgate.train.report.command import write_report

HOSTILE = [
    "</text></svg><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    r"$\frac{$",
    "_hidden",
    "\x1b[31mred\x00",
    "\u202eevil",
    "{{ 7 * 7 }}",
    "&amp;",
    "<!--",
    "9",
]


@pytest.mark.parametrize("evaluated", [False, True])
def test_text_of_strangers_stays_text(copy, tmp_path, evaluated):
    def change(document):
        document["data"]["labels"] = HOSTILE
        document["config"]["partition" if not evaluated else "label"] = None if evaluated else HOSTILE[0]
        document["versions"]["<b onmouseover=alert(1)>"] = HOSTILE[1]

    path = copy('"><b onclick=alert(1)>&lt;', change=change)
    found = shown(tmp_path, path, evaluated=evaluated, figures=tmp_path / "figures")
    assert not {"script", "b", "img"} & {tag for tag, _ in found.elements}
    assert not any(key.startswith("on") for _, attributes in found.elements for key in attributes)
    assert path.name in found.texts and not set("\x1b\x00\u202e") & set(found.text)
    assert "<b onmouseover=alert(1)>" in found.words and HOSTILE[1] in found.words
    if evaluated:
        assert "{{ 7 * 7 }}" in found.texts and "channels-A-1" in found.figures
        assert (tmp_path / "figures" / "channels-A-1.png").exists()


def test_a_run_without_rounds_or_model_is_shown_as_far_as_it_is(copy, tmp_path):
    path = copy(rows=[])
    for name in ("checkpoints", "model.safetensors"):
        file = path / name
        shutil.rmtree(file) if file.is_dir() else file.unlink()
    found = shown(tmp_path, path, evaluated=True)
    assert "no round is finished yet, of 2" in found.words and "has no finished round yet" in found.words
    assert found.figures == ["classes-A"]
    (path / "metrics.jsonl").unlink()
    assert "it has no metrics.jsonl" in shown(tmp_path, path).words


def test_a_run_that_goes_on_says_so(copy, runs, tmp_path):
    row = round_rows(runs[1])[0]
    path = copy(rows=[row])
    with open(path / "metrics.jsonl", "ab") as file:
        file.write(b'{"round": 2, "cli')  # as a process leaves it that is just writing
    found = shown(tmp_path, path)
    assert "in progress, or interrupted: 1 of 2 rounds are done" in found.words and "not whole" in found.words
    assert found.rows[1][0] == 1 and found.rows[1][1] == row["accuracy"]


DAMAGED = [
    b"garbage",
    b"\xff\xfe\x00",
    b"[" * 100_000,
    b"[]",
    b'{"round": 1}',
    b'{"round": 1e999, "client": null}',
    b'{"round": 1, "client": null, "accuracy": 7}',
    b'{"round": 1, "client": null, "accuracy": "<b>"}',
    b'{"round": 1, "client": null, "bytes_up": -1}',
    b'{"round": 1, "client": null, "bytes_up": true}',
    b'{"round": 1, "client": null, "density": [0.5, "x"]}',
    b'{"round": 0, "client": null}',
]


def test_damaged_rows_are_counted_and_left_out(copy, runs, tmp_path):
    row = round_rows(runs[1])[1]
    found = shown(tmp_path, copy(rows=[*DAMAGED, row]))
    assert f"metrics.jsonl is damaged (line 1: not JSON and {len(DAMAGED) - 1} more)" in found.words
    assert "too low" in found.words
    assert found.rows[1][1:4:2] == [row["accuracy"], row["bytes_up"]]


def test_a_run_that_diverged_is_shown(copy, runs, tmp_path):
    row = dict(round_rows(runs[1])[1], loss=float("nan"), test_loss=float("inf"), accuracy=0.1)
    found = shown(tmp_path, copy(rows=[row]))
    assert found.rows[1][1] == 0.1 and "damaged" not in found.words


def test_rows_of_an_older_version_leave_out_what_they_lack(copy, tmp_path):
    found = shown(tmp_path, copy(rows=[{"round": r, "client": None, "accuracy": r / 10} for r in (1, 2)]))
    assert found.figures == ["accuracy-rounds"] and found.rows[1] == [2, 0.2, 0.2, 2]


def test_simulated_time_where_there_is_any(copy, runs, tmp_path):
    rows = [row | {"simulated_seconds": 100.0 * row["round"]} for row in round_rows(runs[1])]
    old = [{key: row[key] for key in row if not key.startswith("simulated")} for row in rows]
    found = shown(tmp_path, copy("old", old))
    assert "accuracy-time" not in found.figures and "no run has simulated clocks" in found.words
    found = shown(tmp_path, copy("clocked", rows), tmp_path / "runs" / "old", target=rows[0]["accuracy"])
    assert "accuracy-time" in found.figures and "left out: B old" in found.words
    assert 300.0 in found.rows[1] and found.rows[1][-1] == 100.0  # in all, and up to the target


def test_runs_of_other_data_are_not_comparable(copy, runs, tmp_path):
    def change(document):
        document["data"]["sha256"] = "0" * 64

    path = copy(change=change)
    found = shown(tmp_path, path, runs[0], evaluated=True)
    assert "not trained and tested on the same data" in found.words
    assert "now holds other data than the run was trained on" in found.words
    assert "accuracy-clients" in found.figures  # of the other run


@pytest.mark.parametrize(
    "facts", [{"labels": []}, {"labels": 7}, {"labels": ["one"] * 11}, {"shape": [1, 10**6, 10**6]}, {"shape": "x"}]
)
def test_facts_that_do_not_fit_the_data_are_not_believed(copy, tmp_path, facts):
    path = copy("[bold]", change=lambda document: document["data"].update(facts))
    found = shown(tmp_path, path, evaluated=True)
    assert "data and model not looked at" in found.words and "accuracy-rounds" in found.figures


def test_code_of_a_run_is_not_executed_unasked(copy, tmp_path):
    code = tmp_path / "own.py"
    code.write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\ndef make(classes, shape): raise ValueError('no')\n")

    def change(document):
        document["config"]["model"] = f"{code}:make"

    path = copy(change=change)
    shutil.rmtree(path / "checkpoints")  # they name the model too
    found = shown(tmp_path, path, evaluated=True)
    assert "run only where --own-code allows it" in found.words and not (tmp_path / "executed").exists()
    assert "classes-A" in found.figures
    shown(tmp_path, path, evaluated=True, own_code=True)
    assert (tmp_path / "executed").exists()


@pytest.mark.parametrize("text", ["", "[]", '{"config": 7}', '{"format": "fedgate-run", "config": []}', "\0"])
def test_a_damaged_configuration_is_one_line(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(FedgateError) as refused:
        write_report([tmp_path], tmp_path / "page.html")
    assert "\n" not in str(refused.value) and not (tmp_path / "page.html").exists()
