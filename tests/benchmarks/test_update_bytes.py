"""The table of update sizes: its dense row is the published network's, its salient one what the masks leave."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "update_bytes.py"


def test_resnet32_by_codec(tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPT, "--quick", "--json", tmp_path / "rows.json"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    rows = {(row["upload"], row["codec"]): row for row in json.loads((tmp_path / "rows.json").read_text())}
    dense = rows["full", "fp32"]["bytes"] / rows["full", "fp32"]["ratio_to_dense_fp32"]
    statistics = 2 * (16 + 10 * 16 + 10 * 32 + 10 * 64)  # running means and variances beside the 464,154
    assert dense == pytest.approx(4 * (464_154 + statistics), rel=2e-3)
    assert 0.35 < rows["salient", "fp32"]["kept_share"] < 0.39  # half the filters, and of every second layer a quarter
    assert rows["salient", "int8"]["ratio_to_dense_fp32"] < 0.12
    for kind in ("full", "salient"):
        sizes = [rows[kind, codec]["bytes"] for codec in ("fp32", "fp16", "int8")]
        assert sizes[1] < 0.51 * sizes[0] and sizes[2] < 0.28 * sizes[0]
