"""What the server sends to the clients of a round: to each what it does not hold already.

`public` are the weights from which all clients of a round start: the server's own, or with a lossy codec what the
clients can know of them. From round to round

    public_t = public_{t-1} + decode(encode(tensors_t - public_{t-1}))

so that what a codec lost in one round is sent in a later one (as DoubleSqueeze has it: H. Tang, C. Yu, X. Lian,
T. Zhang, J. Liu, "DoubleSqueeze: Parallel Stochastic Gradient Descent with Double-pass Error-Compensated Compression",
ICML 2019, algorithm 1). A client that holds public_{t-1} gets this difference between the channels that the last
aggregation changed; one that holds an older base b the present float32 values between the channels changed since b; one
that holds nothing gets everything. What no gate indexes is always sent.
"""

import dataclasses

import numpy as np

from fedgate.device_runtime.formats.codec import decode_slices, encode_slices
from fedgate.device_runtime.formats.tensors import tensors_hash
from fedgate.device_runtime.formats.update import CONTROL, SERVER, Update, UpdateSpec, encode_update

from ..strategies import ServerState

SERVER_STREAM = 2**32 - 1  # beside the numbers of clients in seeds


class Broadcast:
    """The server's side of a round's start.

    spec: of the updates that are expected back. public: the weights of which they are updates. before: those of the
    round before, or None in the first; a client that holds an older base has the same in all that it is not sent.
    """

    def __init__(self, state: ServerState, spec: UpdateSpec, codec: str = "fp32", seed: int = 0):
        """spec: its base_hash is not looked at; seed: of the codec's rounding in this round."""
        self.tensors, self.before, self.changed = served(state, spec), state.public or None, state.changed
        self.codec, self.seed = codec, seed
        self.blobs = {}
        self.public = self.tensors
        if self.before and codec != "fp32":
            self.public = known(self.tensors, self.before, self.changed_since(state.round - 1, spec), spec, codec, seed)
        self.spec = dataclasses.replace(spec, base_round=state.round, base_hash=tensors_hash(self.public))

    def changed_since(self, round_, spec):
        """By layer the channels that an aggregation after `round_` changed."""
        return {layer: np.flatnonzero(self.changed[layer] > round_).astype(np.uint16) for layer in spec.channels}

    def held(self, round_):
        """The weights that a client holds which took part in `round_`; None for one that never did."""
        return None if round_ is None else self.before

    def blob(self, round_):
        """The download for a client that holds the public weights of `round_`, or None for nothing."""
        if round_ not in self.blobs:
            self.blobs[round_] = self.encode(round_)
        return self.blobs[round_]

    def encode(self, round_):
        spec = self.spec
        last = round_ is not None and round_ == spec.base_round - 1
        channels = spec.all_channels() if round_ is None else self.changed_since(round_, spec)
        codec = self.codec if last else "fp32"
        parts = spec.take(self.tensors if last else self.public, channels)
        rows = {layer: np.zeros((spec.levels, c)) for layer, c in spec.channels.items()}
        update = Update(
            run=spec.run,
            base_round=spec.base_round,
            base_hash=spec.base_hash,
            client=SERVER,
            examples=0,
            local_steps=0,
            samples=(0,) * spec.levels,
            channels=channels,
            values={name: part for name, part in parts.items() if not name.startswith(CONTROL)},
            control={name.removeprefix(CONTROL): part for name, part in parts.items() if name.startswith(CONTROL)},
            opened=rows,
            strength=rows,
            codec=codec,
            levels=tuple(range(spec.levels)),
        )
        return encode_update(update, spec, self.before, self.seed)


def broadcast_of(state: ServerState, spec: UpdateSpec, config) -> Broadcast:
    """What a run's server sends at the start of the round that follows a state. config: its `TrainConfig`."""
    return Broadcast(state, spec, config.download_codec, (config.seed, state.round, SERVER_STREAM))


def served(state, spec):
    """All that clients are given of a server state, by name: with SCAFFOLD its control variates too.

    Not what is frozen: that they hold from the run that it comes from.
    """
    control = {name: value for name, value in state.memory.items() if name.startswith(CONTROL)}
    return {name: state.tensors[name] for name in spec.parameters} | control


def known(tensors, before, channels, spec, codec, seed):
    """What a client knows of `tensors` that held `before` and was sent the difference between some channels."""
    shapes = spec.slices(channels, range(spec.levels))
    base = spec.take(before, channels)
    parts = spec.take(tensors, channels)
    sent = encode_slices(codec, {name: parts[name] for name in shapes}, base, seed)
    public = {name: np.array(value) for name, value in before.items()}
    spec.put(public, channels, decode_slices(codec, sent, shapes, base))
    return public


def stored(state: ServerState, codec: str) -> ServerState:
    """What a checkpoint holds of a state: with fp32 downloads no `public`, which `restored` finds again."""
    return dataclasses.replace(state, public={}) if codec == "fp32" else state


def restored(state: ServerState, spec: UpdateSpec) -> ServerState:
    """The inverse of `stored`. fp32 clients are sent all that changed: in the rest they hold what the server has."""
    return state if state.public or not state.round else dataclasses.replace(state, public=served(state, spec))


def note_changes(before: ServerState, after: ServerState, spec: UpdateSpec, public) -> ServerState:
    """`after` with `public`, the weights that its round's clients hold, and the last change of each channel."""
    changed = {layer: np.array(before.changed.get(layer, np.zeros(c)), np.int32) for layer, c in spec.channels.items()}
    old, new = served(before, spec), served(after, spec)
    for name in new:
        moved = bits(old[name]) != bits(new[name])  # -0.0 equals 0.0, but hashes otherwise
        for axis, layer in enumerate(spec.axes_of(name)):
            if layer is not None:
                rows = moved.any(axis=tuple(i for i in range(moved.ndim) if i != axis))
                changed[layer][rows.reshape(spec.channels[layer], -1).any(1)] = after.round
    return dataclasses.replace(after, public=public, changed=changed)


def bits(values):
    """float32 values as integers that are equal where every bit is."""
    return np.ascontiguousarray(values, np.float32).view(np.uint32)
