"""The rows that benchmarks/demo.py reads from what `fedgate demo` prints."""

from demo import read_rows

PRINTED = """round 20/20  loss 0.012  accuracy 99.72 %  density 0.50
 executorch   dense            99.4 %    1,788,544       1,788,544    0.135           1.00
 onnx         skip            100.0 %      760,128         760,448    0.044           0.93 
 executorch-dense.pte      ok       8 of 8     2.6e-07
gated training sent 21.8 MB up and 23.7 MB down
"""


def test_a_row_for_each_program_and_each_training():
    dense, skip, gated = read_rows(PRINTED)
    assert (dense["runtime"], dense["program"], dense["accuracy_percent"]) == ("executorch", "dense", 99.4)
    assert skip == {
        "runtime": "onnx",
        "program": "skip",
        "accuracy_percent": 100.0,
        "asked_macs": 760128,
        "executed_macs": 760448,
        "p50_ms": 0.044,
        "ratio_to_dense": 0.93,
    }
    assert gated == {"training": "gated", "mb_up": 21.8, "mb_down": 23.7}
