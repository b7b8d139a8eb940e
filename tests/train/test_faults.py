"""Simulated faults: as often as asked for, and every kind of garbage is refused."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.formats.tensors import unpack
from fedgate.device_runtime.formats.update import decode_update, encode_update
from fedgate.train.network.build import build_network, network_tensors
from fedgate.train.network.channels import update_spec
from fedgate.train.server.downloads import Broadcast
from fedgate.train.server.faults import damage, fault, lasts
from fedgate.train.strategies import ServerState


def test_faults_are_as_frequent_as_asked_for():
    found = [fault(0, round_, client, 0.3, 0.1) for round_ in range(100) for client in range(40)]
    counts = Counter(found)
    assert abs(counts["drop-out"] - 1200) < 4 * 29 and abs(counts["garbage"] - 400) < 4 * 19  # four deviations
    assert found == [fault(0, round_, client, 0.3, 0.1) for round_ in range(100) for client in range(40)]
    assert {fault(0, 3, client, 0.0, 0.0) for client in range(50)} == {None}
    assert {fault(0, 3, client, 1.0, 0.0) for client in range(50)} == {"drop-out"}
    assert all(0 <= lasts(0, 3, client) < 1 for client in range(50))


def upload(gate="paper", codec="fp32"):
    """(blob, spec, base) of a good update."""
    network = build_network("cnn", gate, (0.5,) if gate == "paper" else (1.0,), 10, (1, 8, 8))
    start = Broadcast(ServerState(2, network_tensors(network)), update_spec(network, "some-run"))
    update = decode_update(start.blob(None), start.spec)
    moved = {name: value + np.float32(0.01) for name, value in update.values.items()}
    update = replace(update, client=1, examples=50, local_steps=4, codec=codec, values=moved)
    return encode_update(update, start.spec, start.public), start.spec, start.public


@pytest.mark.parametrize("gate, codec", [("paper", "fp32"), ("none", "fp32"), ("paper", "int8"), ("none", "fp16")])
def test_all_garbage_is_refused(gate, codec):
    blob, spec, base = upload(gate, codec)
    assert decode_update(blob, spec, base).client == 1
    reasons = []
    for client in range(200):
        garbage = damage(blob, 0, 2, client)
        assert garbage != blob and len(garbage) <= len(blob)
        with pytest.raises(FedgateError) as caught:
            decode_update(garbage, spec, base)
        reasons.append(str(caught.value))
    assert all("\n" not in reason for reason in reasons)
    assert 20 < sum("not finite" in reason for reason in reasons) < 80
    assert 20 < sum("run is" in reason for reason in reasons) < 80
    assert 60 < sum("not a fedgate tensor file" in reason for reason in reasons) < 140


def test_the_undamaged_blob_is_left_alone():
    blob, _, _ = upload()
    copy = bytes(bytearray(blob))
    for client in range(20):
        damage(blob, 1, 0, client)
    assert blob == copy and all(np.isfinite(v).all() for v in unpack(blob)[0].values() if v.dtype.kind == "f")
