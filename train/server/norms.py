"""Norm statistics for the averaged model, pooled from all clients that took part in the last round.

Averaging spoils them: a client's running statistics are those of its own weights, which differ from the average, and a
mean of variances misses how far the clients' means lie apart. So when the last round is aggregated, clients run the
averaged network over their images and send what its norms read (`local.norms`). No single client's statistics are ever
used: those of a few classes ruin the network. The bytes and the simulated time of this exchange are counted in the last
round's: every client's download, a forward pass of its images at each of its levels, and its upload, and the round
lasts until the slowest is done.
"""

from dataclasses import replace

import numpy as np

from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.formats import macs
from fedgate.device_runtime.formats.checks import Fields
from fedgate.device_runtime.formats.tensors import unpack
from fedgate.device_runtime.formats.update import MOST, MOST_HEADER
from fedgate.device_runtime.formats.uploads import held_round, weights

from ..local.norms import FORMAT, KINDS, VERSION, norms_of
from ..strategies import ServerState
from ..strategies.masked import ENOUGH
from ..strategies.statistics import within
from .arrivals import Upload
from .downloads import broadcast_of
from .engine import Engine
from .outcome import Turnout
from .round_input import RoundInput


def decode(blob, shapes, run, round_):
    """Check a client's blob: (examples, arrays by name). Raises `FedgateError` with the reason why it is refused.

    shapes: of the norms' statistics that the client was asked for, by name.
    """
    room = MOST_HEADER + sum(4 * int(np.prod(shape)) + 2 * len(name) + 200 for name, shape in shapes.items())
    if len(blob) > room:
        raise FedgateError(f"the norm statistics have {len(blob)} bytes, and those of this network at most {room}")
    arrays, meta = unpack(blob, "the norm statistics")
    fields = Fields(meta, "the norm statistics")
    for key, wanted in (("format", FORMAT), ("version", VERSION), ("run", run), ("round", round_)):
        if fields.get(key) != wanted:
            fields.refuse(key, repr(wanted))
    if arrays.keys() != shapes.keys():
        raise FedgateError(f"the norm statistics lack or do not know {sorted(arrays.keys() ^ shapes.keys())[0]!r}")
    for name, array in arrays.items():
        if array.dtype != np.float32 or array.shape != tuple(shapes[name]) or not np.isfinite(array).all():
            raise FedgateError(f"the norm statistics' {name!r} is no finite float32 {list(shapes[name])}")
        if name.endswith("var") and (array < 0).any():
            raise FedgateError(f"the norm statistics' {name!r} is negative")
    return fields.whole("examples", 1, MOST), arrays


def pool(measured):
    """Statistics of all clients' images together: measured: [(examples, arrays by name)], in the order of clients.

        mean = sum n_k mean_k / sum n_k        var = sum n_k (var_k + (mean_k - mean)^2) / sum n_k

    Each over the clients that measured that norm. Returns arrays by name, float32.
    """
    pooled = {}
    for name in sorted({name for _, arrays in measured for name in arrays if name.endswith("running_mean")}):
        other = name.removesuffix("mean") + "var"
        parts = [(n, arrays[name].astype(np.float64), arrays[other]) for n, arrays in measured if name in arrays]
        total = sum(n for n, _, _ in parts)
        mean = sum(n * m for n, m, _ in parts) / total
        pooled[name] = mean.astype(np.float32)
        pooled[other] = (sum(n * (v + (m - mean) ** 2) for n, m, v in parts) / total).astype(np.float32)
    return pooled


def near_the_others(measured, tensors):
    """What clients measured, each statistic no further from the others' than `strategies.statistics` lets it.

    tensors: the model's, by name, whose own statistics stand in where fewer than three clients measured a norm.
    """
    made = [(examples, dict(arrays)) for examples, arrays in measured]
    for name in sorted({name for _, arrays in measured for name in arrays if name.endswith("running_mean")}):
        other = name.removesuffix("mean") + "var"
        there = [arrays for _, arrays in made if name in arrays]
        means, variances = (np.array([arrays[key] for arrays in there], np.float64) for key in (name, other))
        sent = np.ones(means.shape, bool)
        found = within(means, variances, sent, tensors[name], tensors[other], young=len(there) < ENOUGH)
        for arrays, mean, variance in zip(there, *found, strict=True):
            arrays |= {name: mean.astype(np.float32), other: variance.astype(np.float32)}
    return made


def reestimated(start: RoundInput, state: ServerState, turnout: Turnout, engine: Engine):
    """A state with the statistics pooled from the clients whose updates it is made of: (state, turnout).

    The bytes and the simulated seconds that this takes are added to the clients' outcomes, and the slowest client's
    seconds to the round's. A client whose blob is refused is left out, and its outcome says why.
    """
    config, run, measured, judged, slowest = start.config, start.info.run, [], [], 0.0
    broadcast = broadcast_of(state, start.broadcast.spec, config)
    asked = sorted((each for each in turnout.used if isinstance(each.source, Upload)), key=lambda each: each.client)
    every = range(len(config.density))
    levels = {each.client: every if (own := start.levels[each.client]) is None else [own] for each in asked}
    passes = [sum(macs.nominal(start.network.layers, density).values()) for density in config.density]
    blobs = engine.measure_norms(levels, weights(broadcast.public), config.density, run, state.round)
    for outcome, blob in zip(asked, blobs, strict=True):
        client, received, reason = outcome.client, len(broadcast.blob(held_round(outcome.source.state))), None
        costs = start.examples[client] * sum(passes[level] for level in levels[client])
        seconds = start.clocks.receiving(received) + start.clocks.training(client, costs)
        seconds += start.clocks.sending(len(blob))
        norms = norms_of(start.network, levels[client])
        shapes = {f"{name}.{kind}": norm.running_mean.shape for name, norm in norms.items() for kind in KINDS}
        try:
            examples, arrays = decode(blob, shapes, run, state.round)
            measured.append((min(examples, start.examples[client]), arrays))
        except FedgateError as error:
            reason = str(error)
        slowest = max(slowest, seconds)
        judged.append(
            replace(
                outcome,
                reason=reason,
                bytes_down=outcome.bytes_down + received,
                bytes_up=outcome.bytes_up + len(blob),
                simulated_seconds=(outcome.simulated_seconds or 0.0) + seconds,
            )
        )
    norms = pool(near_the_others(measured, state.tensors))
    turnout = replace(turnout.with_used(judged), ended=turnout.ended + slowest)
    return replace(state, tensors=state.tensors | norms), turnout
