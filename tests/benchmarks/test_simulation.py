"""The simulation script: its rows, and that it compares nothing but the same training."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fedgate.device_runtime.errors import FedgateError

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

from simulation.command import check_same, flower_python  # noqa: E402


def run(folder, *options):
    """The script's rows."""
    path = folder / "rows.json"
    command = [sys.executable, BENCHMARKS / "simulation", "--quick", "--json", path, *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(path.read_text())


def test_rows_of_the_local_engine(tmp_path):
    (row,) = run(tmp_path, "--only", "digits", "--clients", "5", "--workers", "1", "--without-flower")
    assert (row["clients"], row["images"], row["processes"], row["threads_each"]) == (5, 1437, 1, 1)
    assert len(row["seconds"]) == row["turns"] == 3
    assert row["images_per_second"] == pytest.approx(1437 * row["epochs"] / np.median(row["seconds"]))
    assert row["ratio_to_flower"] is None and row["flower_images_per_second"] is None


def test_sides_that_trained_different_things_are_not_compared():
    ours = {"w": np.ones((2, 2), np.float32), "b": np.zeros(2, np.float32)}
    check_same(ours, {name: value + np.float32(1e-6) for name, value in ours.items()})
    for wrong in ({"w": ours["w"]}, ours | {"b": ours["b"] + 1e-3}, ours | {"b": ours["b"] * np.nan}):
        with pytest.raises(FedgateError, match="the two sides"):
            check_same(ours, wrong)


@pytest.mark.slow
def test_both_sides_on_both_workloads(tmp_path):
    """That the ratios are finite is what can be promised here: their size depends on what else the machine does."""
    try:
        flower_python()
    except FedgateError as error:
        pytest.skip(str(error))
    rows = run(tmp_path, "--clients", "8", "--images", "8", "--workers", "2")
    assert [(row["clients"], row["model"]) for row in rows] == [(8, "cnn"), (10, "resnet32")]
    for row in rows:
        ratios = np.array(row["flower_seconds"]) / np.array(row["seconds"])
        assert row["ratio_to_flower"] == pytest.approx(np.median(ratios))
        assert 0 < row["ratio_low"] <= row["ratio_to_flower"] <= row["ratio_high"]
