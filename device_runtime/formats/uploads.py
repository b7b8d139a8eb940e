"""What a client sends after its local training, and what it keeps for the next."""

import numpy as np

from ..errors import FedgateError
from .update import decode_update, encode_update
from .update_spec import CONTROL, Update

# What a client keeps: the round of the weights it holds, and what the codec lost of each parameter.
HELD = "held/round"
ERROR = "error/"
ROUNDING = 1  # of the client's seed, what rounds its upload


def weights(served):
    """What a network holds of all that a download brought."""
    return {name: value for name, value in served.items() if not name.startswith(CONTROL)}


def held_round(state):
    """The round whose public weights a client holds, by what it keeps; None for one that holds nothing."""
    return int(state[HELD][0]) if HELD in state else None


def encode_upload(tensors, result, spec, base, client, examples, plan, state):
    """What a client sends back, and what it keeps: (blob, its new state).

    tensors: the trained network's, by name. result: of the local training: its salience, steps, touched, levels and
    control. base: the weights that it started from. plan: its upload_share, codec and seed. With a lossy codec the
    client keeps what was lost, and adds it to what it sends next (F. Seide, H. Fu, J. Droppo, G. Li, D. Yu, "1-Bit
    Stochastic Gradient Descent and its Application to Data-Parallel Distributed Training of Speech DNNs", Interspeech
    2014, section 3.2).
    """
    record, channels = result.salience, sent_channels(result, spec, plan.upload_share)
    wanted = tensors
    if plan.codec != "fp32":
        wanted = {name: value + state.get(ERROR + name, np.float32(0)) for name, value in tensors.items()}
    update = Update(
        run=spec.run,
        base_round=spec.base_round,
        base_hash=spec.base_hash,
        client=client,
        examples=examples,
        local_steps=result.steps,
        samples=tuple(int(n) for n in record.samples),
        channels=channels,
        values=spec.take({name: wanted[name] for name in sent_names(spec, result.levels)}, channels),
        control=spec.take(result.control, channels),
        opened=record.opened,
        strength=record.strength,
        codec=plan.codec,
        levels=result.levels,
    )
    blob = encode_update(update, spec, base, (plan.seed, ROUNDING))
    kept = state | {HELD: np.array([spec.base_round], np.int64)}
    if plan.codec != "fp32" or result.control:
        try:
            update = decode_update(blob, spec, base)
        except FedgateError:  # training diverged, and the server will refuse it
            return blob, kept
        kept |= corrected(update, spec, state)
        if plan.codec != "fp32":
            kept |= lost(update, spec, wanted, state)
    return blob, kept


def corrected(update, spec, state):
    """A client's control variates "control/PARAMETER" after the change that the server received."""
    variates = {CONTROL + name: np.zeros(spec.parameters[name], np.float32) for name in update.control}
    for name, control in variates.items():
        control += state.get(name, np.float32(0))
        part = spec.take({name: control}, update.channels)[name] + update.control[name.removeprefix(CONTROL)]
        spec.put(variates, update.channels, {name: part})
    return variates


def lost(update, spec, wanted, state):
    """What the receiver of an update does not get of the tensors `wanted`: arrays "error/PARAMETER"."""
    errors = {name: np.array(state.get(ERROR + name, np.zeros_like(wanted[name]))) for name in update.values}
    parts = spec.take(wanted, update.channels)
    spec.put(errors, update.channels, {name: parts[name] - value for name, value in update.values.items()})
    return {ERROR + name: error for name, error in errors.items()}


def sent_channels(result, spec, share):
    """By layer the channels that a client sends: those that its training opened.

    share: below 1 only the strongest of them, the fewest whose share of the layer's strength in the salience record,
    summed over the levels, reaches it; among equals the lower index. None sends all channels, opened or not.
    """
    if share is None:
        return spec.all_channels()
    kept = {}
    for layer, touched in result.touched.items():
        chosen = np.flatnonzero(touched)
        if share < 1:
            strength = result.salience.strength[layer].sum(0)
            order = np.argsort(-strength, kind="stable")
            sums = np.cumsum(strength[order])
            enough = np.searchsorted(sums, share * sums[-1]) + 1 if sums[-1] > 0 else 0
            chosen = np.sort(order[:enough])
        kept[layer] = chosen.astype(np.uint16)
    return kept


def sent_names(spec, levels):
    """The parameters that a client sends which trained these levels: all but the norms of others."""
    return [name for name in spec.parameters if spec.level_of.get(name) in (None, *levels)]
