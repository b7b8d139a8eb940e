"""The latency script, as a user runs it: its rows, the work they tell, and its cache of lowered programs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fedgate.device_runtime.formats import macs
from fedgate.train.network.build import build_network

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

from common import keep, lowered_digest  # noqa: E402

KEYS = {
    *("runtime", "model", "input", "density", "role", "threads", "p50_ms", "p90_ms", "ratio_to_dense", "ratio_low"),
    *("ratio_high", "ratio_to_best_dense", "executed_macs", "dense_macs", "gmacs", "noisy", "noise", "cpu", "reason"),
}


def run(folder, *options):
    """The script's rows."""
    path = folder / "rows.json"
    command = [sys.executable, BENCHMARKS / "latency", "--quick", "--seconds", "1", "--json", path, *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "synthetic" in done.stdout
    return json.loads(path.read_text())


def test_skip_executes_what_its_masks_ask_for_and_rows_are_complete(tmp_path, need_kernel):
    need_kernel()
    rows = run(tmp_path, "--model", "cnn-16", "--runtime", "executorch", "--role", "skip", "--density", "0.25,1")
    assert [(row["role"], row["density"]) for row in rows] == [("dense", None), ("skip", 0.25), ("skip", 1.0)]
    layers = build_network("cnn", "paper", (0.25, 1.0), 10, (3, 16, 16)).layers
    for row in rows:
        assert row.keys() >= KEYS and row["reason"] is None
        assert (row["runtime"], row["model"], row["input"], row["threads"]) == ("executorch", "cnn", 16, 1)
        assert 0 < row["p50_ms"] <= row["p90_ms"] and row["ratio_low"] <= row["ratio_to_dense"] <= row["ratio_high"]
        assert row["gmacs"] == pytest.approx(row["executed_macs"] / row["p50_ms"] / 1e6)
        assert row["ratio_to_best_dense"] == pytest.approx(row["p50_ms"] / rows[0]["p50_ms"])
        assert row["max_error"] < 1e-4
    dense, low, high = rows
    assert dense["executed_macs"] == dense["dense_macs"] == macs.total(macs.dense(layers))
    # At a low density k channels have gates above zero. The linear layer is a stock operator: it reads closed ones too.
    asked = macs.nominal(layers, 0.25)
    assert low["asked_macs"] == macs.total(asked)
    assert low["executed_macs"] == macs.total(asked | {"head": macs.dense(layers)["head"]})
    assert high["asked_macs"] <= high["executed_macs"] <= macs.total(macs.nominal(layers, 1.0))
    assert low["executed_macs"] < high["executed_macs"]


@pytest.mark.slow
def test_every_role_on_both_runtimes_with_two_threads(tmp_path, need_kernel):
    need_kernel()
    rows = run(tmp_path, "--model", "cnn-16", "--density", "0.5", "--threads", "1", "--threads", "2")
    kinds = {(row["runtime"], row["role"], row["threads"]) for row in rows}
    roles = ("dense", "masked", "static", "slim", "skip", "dense-int8")
    assert kinds == {(r, role, t) for r in ("executorch", "litert") for role in roles for t in (1, 2)}
    assert all(row["reason"] is None for row in rows)
    for row in rows:
        best = min(r["p50_ms"] for r in rows if r["role"] == "dense" and r["threads"] == row["threads"])
        assert row["ratio_to_best_dense"] == pytest.approx(row["p50_ms"] / best)
        assert row["max_error"] < (0.2 if row["role"] == "dense-int8" else 1e-4)


def test_lowered_programs_are_kept_by_what_they_depend_on(tmp_path):
    body = build_network("cnn", "none", (1.0,), 10, (3, 16, 16)).body
    first = lowered_digest(body, "dense")
    assert lowered_digest(body, "dense") == first != lowered_digest(body, "slim")
    next(body.parameters()).data[0] += 1
    assert lowered_digest(body, "dense") != first
    place = tmp_path / "build" / "program"
    for content, fresh, kept in ((b"one", False, b"one"), (b"two", False, b"one"), (b"three", True, b"three")):
        assert keep(place, lambda content=content: content, fresh).read_bytes() == kept
    assert [path.name for path in place.parent.iterdir()] == ["program"]
