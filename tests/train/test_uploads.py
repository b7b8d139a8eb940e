"""Uploads: which channels a client sends, what the server rebuilds from them, and what the client keeps."""

import dataclasses

import numpy as np
import pytest
import torch

from fedgate.device_runtime.formats.salience import SalienceRecord
from fedgate.device_runtime.formats.update import decode_update
from fedgate.device_runtime.formats.uploads import encode_upload, sent_channels
from fedgate.train.data.load import load_data
from fedgate.train.local.client import LocalPlan, LocalResult, train_locally
from fedgate.train.network.build import build_network, network_tensors
from fedgate.train.network.channels import kept_share, record_of, update_spec
from fedgate.train.server.downloads import Broadcast
from fedgate.train.strategies import ServerState, Strategy, round_step

PLAN = LocalPlan(
    densities=(0.25,),
    epochs=2,
    batch_size=16,
    lr=0.05,
    seed=7,
    upload_share=1.0,
)


@pytest.fixture(scope="module")
def examples():
    """Two classes: a client that leaves channels closed."""
    data = load_data("digits")
    chosen = torch.nonzero(data.train_labels < 2)[:64, 0]
    return data.train_images[chosen], data.train_labels[chosen], (data.mean, data.std)


def client(examples, plan=PLAN, densities=(0.25,), state=None):
    """One round of one client: (network after it, result, broadcast, blob, what the client keeps)."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = build_network("cnn", "paper", densities, 10, (1, 8, 8)).to(memory_format=torch.channels_last)
    broadcast = Broadcast(ServerState(0, network_tensors(network)), update_spec(network, "run"))
    plan = dataclasses.replace(plan, densities=densities)
    result = train_locally(network, *examples, plan)
    sent = encode_upload(network_tensors(network), result, broadcast.spec, broadcast.public, 3, 64, plan, state or {})
    return network, result, broadcast, *sent


def rebuilt(update, broadcast):
    """The base with the update's slices written into it."""
    tensors = {name: value.copy() for name, value in broadcast.public.items()}
    broadcast.spec.put(tensors, update.channels, update.values)
    return tensors


@pytest.mark.parametrize("densities", [(0.25,), (0.25, 0.5, 1.0)])
def test_a_whole_share_in_fp32_rebuilds_the_clients_model_bit_for_bit(examples, densities):
    level = {"level": 0} if len(densities) > 1 else {}  # of several one that leaves channels closed
    network, _, broadcast, blob, _ = client(examples, dataclasses.replace(PLAN, **level), densities)
    update = decode_update(blob, broadcast.spec, broadcast.public)
    strategy = Strategy(frozenset(name for name, _ in network.body.named_parameters()), clients=4)
    state = ServerState(0, broadcast.public)
    ours = round_step(state, [update], strategy, broadcast.spec, broadcast.public)[0].tensors
    theirs = network_tensors(network)
    assert kept_share(update, broadcast.spec) < 0.9
    assert all(ours[name].tobytes() == value.tobytes() for name, value in theirs.items())
    assert any((broadcast.public[name] != value).any() for name, value in theirs.items())


def test_norms_of_levels_that_were_not_trained_are_not_sent(examples):
    plan = dataclasses.replace(PLAN, level=1)
    _, result, broadcast, blob, _ = client(examples, plan, (0.25, 0.5, 1.0))
    update = decode_update(blob, broadcast.spec, broadcast.public)
    assert result.levels == update.levels == (1,)
    assert {name.split(".norms.")[1][0] for name in update.values if ".norms." in name} == {"1"}
    assert {name for name in broadcast.spec.parameters if ".norms." not in name} < update.values.keys()


def record(strength):
    """A salience record of one layer: strength (levels, C)."""
    strength = np.array(strength, np.float64)
    return SalienceRecord({"a": (strength > 0).astype(np.int64)}, {"a": strength}, np.ones(len(strength), np.int64))


@pytest.mark.parametrize(
    ("share", "kept"),
    [
        (1.0, [0, 1, 3, 4, 5]),  # all that was ever open, 5 in an epoch before the record's
        (0.99, [0, 1, 3, 4]),
        (0.8, [0, 1, 4]),  # 4 + 3 + 1 of 10; of the equal ones the lower
        (0.7, [0, 1]),
        (0.71, [0, 1, 4]),
        (0.4, [1]),
        (0.1, [1]),
    ],
)
def test_the_fewest_channels_that_make_up_the_share(share, kept):
    touched = {"a": np.array([True, True, False, True, True, True])}
    salience = record([[1, 4, 0, 0, 1, 0], [2, 0, 0, 2, 0, 0]])
    salience.strength["a"][1, 3] = 1  # sums: 3, 4, 0, 1, 1, 0 of 9
    salience.strength["a"][0, 4] = 2  # and now 3, 4, 0, 1, 2, 0 of 10
    result = LocalResult(salience, 0.0, 0.0, 1, touched, (0, 1))
    found = sent_channels(result, None, share)["a"]
    assert found.dtype == np.uint16 and found.tolist() == kept


def test_a_layer_that_never_opened_sends_no_channel():
    result = LocalResult(record([[0, 0, 0]]), 0.0, 0.0, 1, {"a": np.zeros(3, bool)}, (0,))
    assert all(sent_channels(result, None, share)["a"].size == 0 for share in (0.5, 1.0))


@pytest.mark.parametrize("codec", ["fp16", "int8", "int4"])
def test_the_client_keeps_exactly_what_the_server_does_not_get(examples, codec):
    """What it wanted to send, less what arrived; and what it kept is added to what it sends next."""
    plan, before = dataclasses.replace(PLAN, codec=codec), {}
    for _ in range(2):
        network, _, broadcast, blob, state = client(examples, plan, state=before)
        update = decode_update(blob, broadcast.spec, broadcast.public)
        sent = rebuilt(update, broadcast)
        for name, own in network_tensors(network).items():
            kept_entries = np.zeros(own.shape, bool)
            broadcast.spec.put({name: kept_entries}, update.channels, {name: np.True_})
            wanted = own + before.get("error/" + name, np.float32(0))
            error = state["error/" + name]
            assert np.array_equal(error[kept_entries], (wanted - sent[name])[kept_entries])
            assert (error[~kept_entries] == 0).all()
        assert any(value.any() for name, value in state.items() if name.startswith("error/"))
        before = state


def test_errors_are_made_up_for(examples):
    """The same training sent again and again: the mean of what arrives goes to what was sent, as 1 / rounds."""
    plan, state, sums = dataclasses.replace(PLAN, codec="int8"), {}, {}
    gaps = []
    for round_ in range(8):
        seeded = dataclasses.replace(plan, seed=7)
        network, result, broadcast, _, _ = client(examples, seeded)
        again = dataclasses.replace(plan, seed=round_)
        blob, state = encode_upload(
            network_tensors(network), result, broadcast.spec, broadcast.public, 3, 64, again, state
        )
        update = decode_update(blob, broadcast.spec, broadcast.public)
        for name, value in update.values.items():
            sums[name] = sums.get(name, 0) + value.astype(np.float64)
        own = broadcast.spec.take(network_tensors(network), update.channels)
        gaps.append(max(np.abs(sums[name] / (round_ + 1) - own[name]).max() for name in sums))
    assert gaps[7] < gaps[0] / 5


def test_a_record_arrives_as_it_was_counted(examples):
    for codec, precise in (("fp32", 1e-6), ("int8", 1e-3)):
        plan = dataclasses.replace(PLAN, codec=codec)
        _, result, broadcast, blob, _ = client(examples, plan, (0.25, 1.0))
        got = record_of(decode_update(blob, broadcast.spec, broadcast.public))
        assert np.array_equal(got.samples, result.salience.samples)
        for layer in got.opened:
            assert np.array_equal(got.opened[layer], result.salience.opened[layer])
            assert np.allclose(got.strength[layer], result.salience.strength[layer], rtol=precise, atol=1e-3)
