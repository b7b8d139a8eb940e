"""What times a newcomer's way: pictures that training reads, and the processor time of a step's processes."""

import sys

import newcomer

from fedgate.train.data.load import load_data


def test_pictures_are_read_by_class(tmp_path):
    newcomer.write_pictures(tmp_path / "photos", "digits", 3, 10)
    data = load_data(str(tmp_path / "photos"))
    assert data.labels == ["0", "1", "2"] and len(data.train_labels) + len(data.test_labels) == 30


def test_a_step_counts_what_its_processes_compute(tmp_path):
    busy = "import time\nwhile time.process_time() < 0.3: pass"
    row = newcomer.step("busy", [sys.executable, "-c", busy], tmp_path, None)
    assert row["step"] == "busy" and 0.3 <= row["cpu_seconds"] < row["seconds"] + 0.5
