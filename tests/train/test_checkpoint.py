"""A checkpoint gives back what was put in, whatever the names hold."""

import numpy as np
import pytest

from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.formats.salience import SalienceRecord
from fedgate.train.server.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from fedgate.train.strategies import ServerState


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path):
    rng = np.random.default_rng(0)
    tensors = {"body.0.weight": rng.normal(size=(3, 2)).astype(np.float32), "scale": np.float32([0.1])}
    clients = {
        0: {"control/a/b": np.float32([[1, -0.0]])},
        12: {"error/w": np.float32([np.pi]), "control/w": tensors["scale"]},
    }
    salience = {"client-0": SalienceRecord.empty({"conv": 4}, 2), "global": SalienceRecord.empty({"conv": 4}, 2)}
    salience["global"].opened["conv"][1, 2] = 7
    write_checkpoint(
        tmp_path, Checkpoint(ServerState(9, tensors), salience, clients, {"metrics_bytes": 3}), {"run": "x"}
    )
    found, meta = read_checkpoint(tmp_path)
    assert meta["run"] == "x" and found.progress == {"metrics_bytes": 3} and found.state.round == 9
    for old, new in ((tensors, found.state.tensors), (clients[0], found.clients[0]), (clients[12], found.clients[12])):
        assert old.keys() == new.keys()
        assert all(old[n].tobytes() == new[n].tobytes() and old[n].shape == new[n].shape for n in old)
    assert found.clients.keys() == clients.keys() and found.salience.keys() == salience.keys()
    assert found.salience["global"].opened["conv"].tolist() == [[0, 0, 0, 0], [0, 0, 7, 0]]


def test_a_checkpoint_without_clients_states_is_whole(tmp_path):
    write_checkpoint(tmp_path, Checkpoint(ServerState(1, {})), {})
    assert read_checkpoint(tmp_path)[0].clients == {}
    (tmp_path / "clients.safetensors").unlink()
    with pytest.raises(FedgateError, match=r"clients\.safetensors"):
        read_checkpoint(tmp_path)
