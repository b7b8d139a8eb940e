"""The feature file: rows come back, work survives a killed process, and other data begin anew."""

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from feature_rows import KEY, rows

from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.tuning.features import DONE, SYNC, UNREADABLE, Features


def test_rows_come_back_in_any_order(tmp_path):
    features, opened = rows(7)
    with Features(tmp_path / "f", KEY, 7, (2, 3, 3), 5) as file:
        for i in (3, 0, 6, 1, 2, 5):
            file.put(i, features[i], opened[i])
        file.mark(4, UNREADABLE)
    with Features(tmp_path / "f", KEY, 7, (2, 3, 3), 5) as file:
        assert file.done.tolist() == [DONE] * 4 + [UNREADABLE] + [DONE] * 2
        got = file.take([6, 0, 6])
        assert np.array_equal(got[0], features[[6, 0, 6]]) and np.array_equal(got[1], opened[[6, 0, 6]])
        assert file.bytes == 7 * (2 * 3 * 3 * 4 + 5 + 1)


def test_a_network_without_gates_has_no_masks(tmp_path):
    with Features(tmp_path / "f", KEY, 2, (4,), 0) as file:
        file.put(1, np.arange(4, dtype=np.float32), None)
        assert file.take([1])[1].shape == (1, 0) and file.take([1])[0].tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize(
    "other", [{"key": KEY | {"data": "e"}}, {"count": 4}, {"shape": (3, 2, 3)}, {"width": 6}], ids=str
)
def test_features_of_anything_else_begin_anew(tmp_path, other):
    made = {"key": KEY, "count": 3, "shape": (2, 3, 3), "width": 5}
    with Features(tmp_path / "f", **made) as file:
        file.put(0, *(part[0] for part in rows(1)))
    with Features(tmp_path / "f", **(made | other)) as file:
        assert not file.done.any()


def test_a_killed_process_loses_little_and_marks_nothing_that_is_not_there(tmp_path):
    code = """
import os, signal, sys
from feature_rows import KEY, rows
from fedgate.device_runtime.tuning.features import Features
features, opened = rows(200)
file = Features(sys.argv[1], KEY, 200, (2, 3, 3), 5)
for i in range(150):
    file.put(i, features[i], opened[i])
os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "f")], env=environment)
    features, _ = rows(200)
    with Features(tmp_path / "f", KEY, 200, (2, 3, 3), 5) as file:
        done = np.flatnonzero(file.done)
        assert done.tolist() == list(range(150 - 150 % SYNC))
        assert np.array_equal(file.take(done)[0], features[done])


def test_memory_does_not_grow_with_the_data(tmp_path):
    tracemalloc.start()
    with Features(tmp_path / "f", KEY, 4000, (1000,), 0) as file:
        row = np.ones(1000, np.float32)
        for i in range(4000):
            file.put(i, row, None)
        file.take(range(0, 4000, 500))
    assert tracemalloc.get_traced_memory()[1] < 2**20 < 4000 * 4000
    tracemalloc.stop()


def test_a_full_disk_is_said_at_once(tmp_path):
    with pytest.raises(FedgateError, match="MB are free"):
        Features(tmp_path / "f", KEY, 2**30, (2**30,), 0)
    assert sum(path.stat().st_size for path in (tmp_path / "f").iterdir()) == 0


def test_a_file_cut_short_is_damaged(tmp_path):
    with Features(tmp_path / "f", KEY, 3, (4,), 0) as file:
        file.put(2, np.zeros(4), None)
    os.truncate(tmp_path / "f" / "features.bin", 20)
    with Features(tmp_path / "f", KEY, 3, (4,), 0) as file, pytest.raises(FedgateError, match="damaged"):
        file.take([2])
    os.truncate(tmp_path / "f" / "done.bin", 1)
    with pytest.raises(FedgateError, match="damaged"):
        Features(tmp_path / "f", KEY, 3, (4,), 0)
