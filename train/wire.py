"""Between networks and the update format: what a client sends up, and what an update brought."""

import math

import numpy as np

from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.update import CONTROL, Update, UpdateSpec, decode_update, encode_update

from .network import network_tensors, norm_levels, parameter_axes
from .salience import SalienceRecord
from .tails import is_frozen

# What a client keeps: the round of the weights it holds, and what the codec lost of each parameter.
HELD = "held/round"
ERROR = "error/"
ROUNDING = 1  # of the client's seed, what rounds its upload


def gated_channels(network):
    """C_out of each gated layer, by name."""
    return {name: gate.out_channels for name, gate in network.gates.items()}


def update_spec(network, run, control=()):
    """What an update to a network must look like, but for its base; control: parameters with a control variate."""
    state = network.body.state_dict()
    shapes = {name: tuple(value.shape) for name, value in state.items() if not is_frozen(network, name)}
    levels = len(network.densities)
    level_of = norm_levels(network) if levels > 1 else {}
    return UpdateSpec(
        parameters=shapes,
        axes=parameter_axes(network),
        channels=gated_channels(network),
        levels=levels,
        run=run,
        base_round=0,
        base_hash="",
        level_of={name: level for name, level in level_of.items() if name in shapes},
        control=tuple(control),
    )


def weights(served):
    """What a network holds of all that a download brought."""
    return {name: value for name, value in served.items() if not name.startswith(CONTROL)}


def held_round(state):
    """The round whose public weights a client holds, by what it keeps; None for one that holds nothing."""
    return int(state[HELD][0]) if HELD in state else None


def encode_upload(network, result, spec, base, client, examples, plan, state):
    """What a client sends back, and what it keeps: (blob, its new state).

    result: of the local training; base: the weights that it started from. With a lossy codec the client keeps what
    was lost, and adds it to what it sends next (F. Seide, H. Fu, J. Droppo, G. Li, D. Yu, "1-Bit Stochastic Gradient
    Descent and its Application to Data-Parallel Distributed Training of Speech DNNs", Interspeech 2014, section 3.2).
    """
    record, channels = result.salience, sent_channels(result, spec, plan.upload_share)
    wanted = network_tensors(network)
    if plan.codec != "fp32":
        wanted = {name: value + state.get(ERROR + name, np.float32(0)) for name, value in wanted.items()}
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


def kept_share(update, spec):
    """How much of the network's tensors an update holds, as a fraction of 1."""
    sent = sum(value.size for value in update.values.values())
    return sent / sum(math.prod(shape) for shape in spec.parameters.values())


def record_of(update):
    """The salience record that came with an update."""
    return SalienceRecord(
        {name: array.astype(np.int64) for name, array in update.opened.items()},
        {name: array.astype(np.float64) for name, array in update.strength.items()},
        np.array(update.samples, np.int64),
    )
