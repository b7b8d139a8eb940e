"""Between networks and the update format: what a network's updates look like, and what one brought."""

import math

import numpy as np

from fedgate.device_runtime.formats.salience import SalienceRecord
from fedgate.device_runtime.formats.update import UpdateSpec

from .build import norm_levels, parameter_axes
from .tails import is_frozen


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
