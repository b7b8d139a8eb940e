"""When an arm is where dense FedAvg ends, and what it has sent until then."""

from communication import summarise


def rounds(accuracies, up, down):
    return [
        {"accuracy": accuracy, "bytes_up": up, "bytes_down": down, "macs_per_sample": 7.0} for accuracy in accuracies
    ]


def test_bytes_until_the_target():
    dense = rounds([0.2, 0.5, 0.59, 0.6, 0.61], up=100, down=100)  # ends at 0.6, and is there in round 4
    gated = rounds([0.1, 0.4, 0.6, 0.5, 0.5], up=10, down=30)
    (row,) = summarise("gated", 3, gated, dense, (0.0,))
    assert (row["rounds_to_target"], row["bytes"], row["seed"]) == (3, 120, 3)
    assert row["ratio_to_dense"] == 120 / 800 and row["ratio_of_uploads"] == 30 / 400
    assert abs(row["target"] - 0.6) < 1e-12 and abs(row["final_accuracy"] - 1.6 / 3) < 1e-12


def test_a_margin_lowers_the_target_for_both():
    dense = rounds([0.2, 0.5, 0.59, 0.6, 0.61], up=100, down=100)
    (row,) = summarise("dense", 0, dense, dense, (1.5,))
    assert row["rounds_to_target"] == 3 and row["ratio_to_dense"] == 1.0


def test_who_never_gets_there_has_no_bytes():
    dense, gated = rounds([0.6] * 3, up=1, down=1), rounds([0.5] * 3, up=1, down=1)
    (row,) = summarise("gated", 0, gated, dense, (0.0,))
    assert row["rounds_to_target"] is row["bytes"] is row["ratio_to_dense"] is None
