"""What clients that vanish, and others that send garbage, cost a run."""

import pytest
from processes import fedgate, rows

OPTIONS = ("--clients", "10", "--rounds", "30", "--density", "0.5", "--quiet")
FAULTS = ("--drop-out", "0.3", "--garbage", "0.1")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_drop_outs_and_garbage_cost_less_than_two_points(tmp_path):
    accuracy = {}
    for name, options in (("clean", ()), ("faulty", FAULTS)):
        done = fedgate("train", *OPTIONS, *options, "--seed", "1", "--out", tmp_path / name)
        assert done.returncode == 0, done.stderr
        accuracy[name] = rows(tmp_path / name)[-1]["accuracy"]
    clients = [row for row in rows(tmp_path / "faulty") if row["client"] is not None]
    assert len(clients) == 300
    dropped = sum(row["status"] == "dropped" for row in clients)
    refused = [row for row in clients if row["status"] == "refused"]
    assert 66 <= dropped <= 114 and 14 <= len(refused) <= 46  # of 90 and 30, three deviations
    assert all(row["reason"] for row in refused)
    assert accuracy["clean"] > 0.95 and accuracy["faulty"] > accuracy["clean"] - 0.02, accuracy
