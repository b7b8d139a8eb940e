"""Downloads: every client ends with the same weights, whatever it held, and gets no more than it lacks."""

import dataclasses

import numpy as np
import pytest

from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.formats.codec import CODECS
from fedgate.device_runtime.formats.tensors import tensors_hash
from fedgate.device_runtime.formats.update import apply_download
from fedgate.train.network.build import build_network, network_tensors
from fedgate.train.network.channels import update_spec
from fedgate.train.server.downloads import Broadcast, note_changes, restored, stored
from fedgate.train.strategies import ServerState

NETWORK = build_network("cnn", "paper", (0.5,), 10, (1, 8, 8))
SPEC = update_spec(NETWORK, "run")
OPENED = [{layer: np.arange(round_, c, 3) for layer, c in SPEC.channels.items()} for round_ in (0, 1, 0, 2)]


def aggregated(tensors, channels, seed):
    """New weights where both channels of an entry are among `channels`."""
    rng, moved = np.random.default_rng(seed), {name: value.copy() for name, value in tensors.items()}
    parts = {name: 0.9 * part + 1e-3 * rng.random(part.shape) for name, part in SPEC.take(tensors, channels).items()}
    SPEC.put(moved, channels, parts)
    return moved


def history(codec):
    """The states of four rounds, with their broadcasts: [(Broadcast, state), ...]."""
    state, rounds = ServerState(0, network_tensors(NETWORK)), []
    for round_, channels in enumerate(OPENED):
        broadcast = Broadcast(state, SPEC, codec, seed=(7, round_))
        rounds.append((broadcast, state))
        after = ServerState(round_ + 1, aggregated(state.tensors, channels, round_))
        state = note_changes(state, after, SPEC, broadcast.public)
    return [*rounds, (Broadcast(state, SPEC, codec, seed=(7, 4)), state)]


@pytest.mark.parametrize("codec", CODECS)
def test_whatever_a_client_held_it_ends_with_the_public_weights(codec):
    """Each really holds the weights of its own last round, which the simulation need not keep."""
    rounds = history(codec)
    publics = [broadcast.public for broadcast, _ in rounds]
    for now, (broadcast, _) in enumerate(rounds):
        for then in (None, *range(now)):
            held = None if then is None else publics[then]
            before = None if held is None else tensors_hash(held)
            got = apply_download(broadcast.blob(then), broadcast.spec, held)
            assert tensors_hash(got) == broadcast.spec.base_hash == tensors_hash(publics[now])
            assert held is None or tensors_hash(held) == before
            # what the simulation gives in the place of an older round's weights comes to the same
            assert tensors_hash(apply_download(broadcast.blob(then), broadcast.spec, broadcast.held(then))) == (
                broadcast.spec.base_hash
            )


@pytest.mark.parametrize("codec", CODECS)
def test_a_stored_state_sends_the_same_and_fits_what_clients_hold(codec):
    rounds = history(codec)
    for now, (broadcast, state) in enumerate(rounds):
        kept = stored(state, codec)
        assert bool(kept.public) == (codec != "fp32" and now > 0)
        again = Broadcast(restored(kept, SPEC), SPEC, codec, seed=(7, now))
        assert again.spec == broadcast.spec
        for then in (None, *range(now)):
            assert again.blob(then) == broadcast.blob(then)
            got = apply_download(again.blob(then), again.spec, again.held(then))
            assert tensors_hash(got) == broadcast.spec.base_hash


def test_fp32_public_weights_are_the_servers():
    for broadcast, state in history("fp32"):
        assert all(broadcast.public[name].tobytes() == value.tobytes() for name, value in state.tensors.items())


@pytest.mark.parametrize("codec", ["fp16", "int8", "int4"])
def test_what_a_lossy_codec_lost_is_made_up_for(codec):
    """While the server's weights rest, the clients' come ever nearer."""
    state, gaps = history(codec)[-1][1], []
    for round_ in range(4, 9):
        broadcast = Broadcast(state, SPEC, codec, seed=(7, round_))
        gaps.append(max(float(np.abs(broadcast.public[n] - value).max()) for n, value in state.tensors.items()))
        changed = {layer: np.full(c, round_ + 1, np.int32) for layer, c in SPEC.channels.items()}
        state = dataclasses.replace(state, round=round_ + 1, public=broadcast.public, changed=changed)
    assert 0 < gaps[0] < 2e-2 and gaps[2] < gaps[0] / 50


def test_only_what_a_client_lacks_is_sent():
    rounds = history("fp32")
    broadcast = rounds[-1][0]
    sizes = {then: len(broadcast.blob(then)) for then in (None, 0, 1, 2, 3)}
    third = sizes[3]
    assert third < 0.5 * sizes[None] and third < sizes[2] < sizes[1] <= sizes[0] <= sizes[None]
    assert len(history("int8")[-1][0].blob(3)) < 0.45 * third


def test_a_download_for_somebody_else_is_refused():
    rounds = history("int8")
    broadcast, publics = rounds[-1][0], [broadcast.public for broadcast, _ in rounds]
    for then, held, reason in ((3, publics[2], "does not fit"), (3, None, "no base"), (2, None, "does not fit")):
        with pytest.raises(FedgateError, match=reason):
            apply_download(broadcast.blob(then), broadcast.spec, held)


def test_changes_are_those_of_the_channels_that_index_them():
    """One entry of a weight between a gated layer and its gated input changes both channels, and nothing else."""
    state = ServerState(0, network_tensors(NETWORK))
    tensors = {name: value.copy() for name, value in state.tensors.items()}
    tensors["features.7.conv.weight"][5, 2, 1, 1] += 1
    changed = note_changes(state, ServerState(1, tensors), SPEC, state.tensors).changed
    assert np.flatnonzero(changed["features.7"]).tolist() == [5]
    assert np.flatnonzero(changed["features.3"]).tolist() == [2]
    tensors["head.weight"][3, 40] += 1  # a flattened input
    changed = note_changes(state, ServerState(1, tensors), SPEC, state.tensors).changed
    each = tensors["head.weight"].shape[1] // SPEC.channels["features.7"]
    assert np.flatnonzero(changed["features.7"]).tolist() == sorted({5, 40 // each})


def test_a_zero_whose_sign_changed_is_sent():
    """It equals what it was, but the weights' hash, which a client compares, tells them apart."""
    name = next(name for name in SPEC.parameters if any(SPEC.axes_of(name)))
    zeros = network_tensors(NETWORK)
    zeros[name] = np.zeros_like(zeros[name])
    before = note_changes(ServerState(0, zeros), ServerState(1, zeros), SPEC, zeros)
    after = note_changes(before, ServerState(2, zeros | {name: -zeros[name]}), SPEC, zeros)
    broadcast = Broadcast(after, SPEC)
    assert tensors_hash(apply_download(broadcast.blob(1), broadcast.spec, zeros)) == tensors_hash(broadcast.public)
