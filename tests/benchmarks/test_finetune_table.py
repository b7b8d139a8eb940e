"""The benchmark of fine-tuning: its rows."""

import json

import finetune
import pytest
from click.testing import CliRunner


@pytest.mark.slow
def test_rows(tmp_path):
    options = ["--quick", "--runtime", "litert", "--images", "40", "--json", str(tmp_path / "rows.json")]
    done = CliRunner().invoke(finetune.main, options, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    assert row["after"] > row["before"] and row["largest_difference"] < 1e-4
    assert row["same_masks"] > 0.99 and row["train_images"] == 80
