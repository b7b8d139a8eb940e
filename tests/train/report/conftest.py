"""Two runs of real training and their page, made once a session; and copies of a run to be changed."""

import json
import shutil

import pytest
from report_page import Page

from fedgate.train.commands import run_training
from fedgate.train.report.command import write_report


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """A dense run and a gated one of two levels, two rounds each, of real training."""
    folder = tmp_path_factory.mktemp("runs")
    common = {"clients": 3, "rounds": 2, "local_epochs": 1, "partition": "dirichlet:0.5", "batch_size": 128}
    common["precision"] = "fp32"  # batches of bfloat16 round otherwise than single images
    run_training(folder / "dense", None, quiet=True, options=common | {"gate": "none"})
    run_training(folder / "gated", None, quiet=True, options=common | {"density": (0.3, 0.6)})
    return [folder / "dense", folder / "gated"]


@pytest.fixture(scope="session")
def page(runs, tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    result = write_report(runs, out / "report.html", figures=out / "figures", target=0.05)
    return Page(out / "report.html"), result, out / "figures"


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
