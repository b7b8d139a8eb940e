"""Between networks and the update format: what is sent down to a client, and up from it."""

import numpy as np

from fedgate.device_runtime.tensors import tensors_hash
from fedgate.device_runtime.update import SERVER, Update, UpdateSpec, encode_update

from .network import network_tensors, parameter_axes
from .salience import SalienceRecord


def gated_channels(network):
    """C_out of each gated layer, by name."""
    return {name: gate.out_channels for name, gate in network.gates.items()}


def update_spec(network, state, run):
    """What an update to a server state must look like."""
    return UpdateSpec(
        parameters={name: value.shape for name, value in state.tensors.items()},
        axes=parameter_axes(network),
        channels=gated_channels(network),
        levels=len(network.densities),
        run=run,
        base_round=state.round,
        base_hash=tensors_hash(state.tensors),
    )


def encode_download(tensors, spec):
    """The blob that a round's clients get: the server's tensors, and a record of no samples."""
    return encode(tensors, SalienceRecord.empty(spec.channels, spec.levels), spec, SERVER, 0, 0)


def encode_upload(network, record, spec, client, examples, steps):
    """The blob that a client sends back: its network's tensors and its salience record."""
    return encode(network_tensors(network), record, spec, client, examples, steps)


def encode(tensors, record, spec, client, examples, steps):
    return encode_update(
        Update(
            run=spec.run,
            base_round=spec.base_round,
            base_hash=spec.base_hash,
            client=client,
            examples=examples,
            local_steps=steps,
            samples=tuple(int(n) for n in record.samples),
            channels=spec.all_channels(),
            values=tensors,
            opened=record.opened,
            strength=record.strength,
        ),
        spec,
    )


def record_of(update):
    """The salience record that came with an update."""
    return SalienceRecord(
        {name: array.astype(np.int64) for name, array in update.opened.items()},
        {name: array.astype(np.float64) for name, array in update.strength.items()},
        np.array(update.samples, np.int64),
    )
