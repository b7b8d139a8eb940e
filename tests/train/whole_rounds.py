"""Small runs on digits whose rounds a test goes through one by one, and what they wrote."""

import functools
import json

import pytest

from fedgate.train.config.resolve import resolve
from fedgate.train.engines.make import open_run
from fedgate.train.ingredients import describe_run, prepare
from fedgate.train.server.run_directory import RunDirectory

SMALL = {
    "clients": 4,
    "rounds": 3,
    "local_epochs": 1,
    "batch_size": 128,
    "partition": "iid",
    "density": (0.5,),
    "density_schedule": 0.0,
    "precision": "fp32",
}
prepare = functools.cache(prepare)


@pytest.fixture
def run(tmp_path):
    """A function that makes a run of options beside `SMALL`; the same folder again for the same name."""
    opened = []

    def make(name="run", workers=1, **options):
        config = resolve(**(SMALL | options))
        data, parts = prepare(config)
        path = tmp_path / name
        directory = RunDirectory.open(path) if path.exists() else RunDirectory.create(path, describe_run(config, data))
        opened.append(open_run(directory, data, parts, workers).__enter__())
        return opened[-1]

    yield make
    for each in opened:
        each.__exit__(None)


def rows(run):
    return [json.loads(line) for line in (run.directory.path / "metrics.jsonl").read_text().splitlines()]


def statuses(run, round_):
    return {row["client"]: row["status"] for row in rows(run) if row["round"] == round_ and row["client"] is not None}
