"""The report page, read back with an HTML parser: its numbers, its figures, and what strangers' runs can do to it."""

import itertools
import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from fedgate.cli import main
from fedgate.device_runtime.errors import FedgateError
from fedgate.train.commands import run_training
from fedgate.train.data.augment import normalise
from fedgate.train.ingredients import make_network, prepare
from fedgate.train.report.command import write_report
from fedgate.train.report.measure import Measurer
from fedgate.train.report.text import percent, quantity
from fedgate.train.server.run_directory import RunDirectory

VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """What stands in a page: elements, ids, addresses, texts, and the numbers of each table row of the summary."""

    def __init__(self, path):
        super().__init__()
        self.open, self.elements, self.texts, self.rows = [], [], [], []
        self.text = Path(path).read_text(encoding="utf-8")
        self.feed(self.text)
        self.close()
        assert self.open == [], "unbalanced elements"

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.elements.append((tag, attributes))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag == "data":
            self.rows[-1].append(float(attributes["value"]))

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if text.strip() and self.open[-1] != "style":
            self.texts.append(text.strip())

    def all(self, name):
        return [attributes for tag, attributes in self.elements if tag == name]

    @property
    def figures(self):
        return [attributes["id"] for attributes in self.all("figure")]

    @property
    def words(self):
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A dense run and a gated one of two levels, two rounds each, of real training."""
    folder = tmp_path_factory.mktemp("runs")
    common = {"clients": 3, "rounds": 2, "local_epochs": 1, "partition": "dirichlet:0.5", "batch_size": 128}
    common["precision"] = "fp32"  # batches of bfloat16 round otherwise than single images
    run_training(folder / "dense", None, quiet=True, options=common | {"gate": "none"})
    run_training(folder / "gated", None, quiet=True, options=common | {"density": (0.3, 0.6)})
    return [folder / "dense", folder / "gated"]


@pytest.fixture(scope="module")
def page(runs, tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    result = write_report(runs, out / "report.html", figures=out / "figures", target=0.05)
    return Page(out / "report.html"), result, out / "figures"


def round_rows(run):
    rows = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [row for row in rows if row["client"] is None]


@pytest.fixture
def copy(runs, tmp_path):
    """A function that copies the gated run to a new folder, with other rows or configuration: (path) of the copy."""

    def make(name="copy", rows=None, change=None):
        path = tmp_path / "runs" / name
        shutil.copytree(runs[1], path)
        if rows is not None:
            lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
            (path / "metrics.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
        if change is not None:
            document = json.loads((path / "config.json").read_text())
            change(document)
            (path / "config.json").write_text(json.dumps(document))
        return path

    return make


def shown(path, *runs, **options):
    options = {"evaluated": False} | options
    write_report(runs, path / "page.html", **options)
    return Page(path / "page.html")


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


def test_every_figure_is_on_the_page_and_in_files(page):
    found, _, folder = page
    names = {
        "accuracy-rounds",
        "accuracy-bytes",
        "accuracy-time",
        "bytes-upload",
        "bytes-download",
        "accuracy-clients",
        "classes-A",
    }
    names |= {"density", "overlap", "channels-B-1"}
    assert set(found.figures) == names
    images = found.all("svg")
    assert len(images) == len(names)
    assert all(image["role"] == "img" and len(image["aria-label"]) > 20 and "viewbox" in image for image in images)
    assert found.words.count("Channels by class: B gated") == 1
    for name in names:
        assert ElementTree.parse(folder / f"{name}.svg").getroot().tag.endswith("svg")
        with Image.open(folder / f"{name}.png") as image:
            assert image.format == "PNG" and len(image.convert("RGB").getcolors(1 << 24)) > 50
    assert {file.stem for file in folder.iterdir()} == names


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


def test_what_differs_is_marked(page, runs):
    found, _, _ = page
    configs = [json.loads((run / "config.json").read_text())["config"] for run in runs]
    differing = [key for key in configs[0] if configs[0][key] != configs[1][key]]
    assert sorted(differing) == ["density", "gate"]
    assert len(found.all("mark")) == len(differing)


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


@torch.no_grad()
def test_channels_by_class_equal_one_image_at_a_time(runs):
    measured = Measurer().measure(runs[1])
    directory = RunDirectory.open(runs[1])
    data, parts = prepare(directory.info.config)
    network = make_network(directory.info).eval()
    state = {name: torch.from_numpy(np.array(value)) for name, value in directory.model_tensors().items()}
    network.body.load_state_dict(state, strict=False)  # norms count no batches
    opened = {name: np.zeros((10, gate.out_channels)) for name, gate in network.gates.items()}
    hits, counts = np.zeros(10), np.bincount(data.test_labels.numpy(), minlength=10)
    for image, label in zip(data.test_images, data.test_labels, strict=True):
        x = normalise(image[None], data.mean, data.std)
        network.level = 1
        hits[label] += network(x).argmax().item() == label.item()
        network.level = 0
        network(x)
        for name, gate in network.gates.items():
            opened[name][label] += gate.open[0].numpy()
    assert measured.density == 0.3 and measured.opened.keys() == opened.keys()
    for name, count in opened.items():
        close = np.abs(measured.opened[name] * counts[:, None] - count)
        assert (close > 0.5).mean() < 0.01 and close.max() < 1.5  # ties of batched and single sums, if any
    for client, part in enumerate(parts):
        held = np.bincount(data.train_labels[part].numpy(), minlength=10)
        assert measured.table[client].tolist() == held.tolist()
        expected = (held * hits / counts).sum() / held.sum()
        assert abs(measured.client_accuracy[client] - expected) < 0.01


def test_ticks_do_not_overlap_and_stay_inside(tmp_path):
    """Drawn with fonts of known size: many runs with long names, many clients, classes with long names."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from fedgate.train.report.command import ReportedRun
    from fedgate.train.report.curves import accuracy_plots, client_plot, round_plots
    from fedgate.train.report.heatmaps import TALLEST, channel_plots, class_plots
    from fedgate.train.report.history import History, Round
    from fedgate.train.report.measure import Measured
    from fedgate.train.report.style import styled

    random = np.random.default_rng(0)
    labels = tuple(f"a class with the number {i}" for i in range(20))

    def rounds(bytes_up):
        return tuple(
            Round(i, 0.5 + i / 500, None, (0.25, 0.5), bytes_up, 10**4, 1e6, 0.9, 4e4 * bytes_up) for i in range(1, 61)
        )

    runs = [
        ReportedRun(
            i, key, History("p", "a run with quite a long name " + key, 200, {}, labels, "", True, rounds(10**i))
        )
        for i, key in enumerate("ABCDEFGH")
    ]
    tables = {run: random.integers(0, 5000, (clients, 20)) for run, clients in zip(runs, (1, 2, 20, 100), strict=False)}
    opened = {f"stage.{i}.block.conv": random.random((20, 64)) for i in range(12)}
    with styled():
        plots = accuracy_plots(runs, 0.7) + round_plots(runs)
        plots += client_plot(runs, {run: random.random(100) for run in runs}) + class_plots(runs, tables)
        plots += channel_plots(runs[0], Measured(density=0.5, opened=opened))
        assert len(plots) >= 3 + 4 + 1 + 4 + 3
        for plot in plots:
            canvas = FigureCanvasAgg(plot.figure)
            canvas.draw()
            assert plot.figure.get_figheight() <= TALLEST + 0.5
            drawn = plot.figure.get_tightbbox(canvas.get_renderer())  # in inches
            assert drawn.x0 > -0.02 and drawn.x1 < plot.figure.get_figwidth() + 0.02, plot.name
            assert drawn.y0 > -0.02 and drawn.y1 < plot.figure.get_figheight() + 0.02, plot.name
            for axes in plot.figure.axes:
                for axis, along in ((axes.yaxis, ("y0", "y1")), (axes.xaxis, ("x0", "x1"))):
                    low, high = sorted(axis.get_view_interval())
                    ticks = [t.label1 for t in axis.get_major_ticks() if low <= t.get_loc() <= high]
                    boxes = [t.get_window_extent() for t in ticks if t.get_text() and not t.get_rotation()]
                    ends = sorted(tuple(getattr(box, end) for end in along) for box in boxes)
                    assert all(a[1] <= b[0] + 1 for a, b in itertools.pairwise(ends)), plot.name


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


@pytest.mark.parametrize("text", ["", "[]", '{"config": 7}', '{"format": "fedgate-run", "config": []}', "\0"])
def test_a_damaged_configuration_is_one_line(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(FedgateError) as refused:
        write_report([tmp_path], tmp_path / "page.html")
    assert "\n" not in str(refused.value) and not (tmp_path / "page.html").exists()
