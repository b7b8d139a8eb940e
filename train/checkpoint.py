"""A checkpoint: everything that the rounds after it depend on, and the folder that holds it.

state.safetensors: the server's arrays as `FIELD/NAME` by the fields of `ServerState`; salience.safetensors: records by
scope; clients.safetensors: what clients keep between rounds, as `CLIENT/NAME`.
"""

import dataclasses
from dataclasses import dataclass, field

import numpy as np

from fedgate.device_runtime.tensors import read_tensors, write_tensors

from .salience import SalienceRecord
from .strategies import ServerState

# What a client keeps to itself between two rounds: arrays named PURPOSE/PARAMETER.
ClientState = dict[str, np.ndarray]


@dataclass(frozen=True)
class Checkpoint:
    """state: after a finished round. salience: by scope. clients: of those that keep anything, by number.

    progress: what resuming needs beside arrays: byte lengths of the logs, totals so far.
    """

    state: ServerState
    salience: dict[str, SalienceRecord] = field(default_factory=dict)
    clients: dict[int, ClientState] = field(default_factory=dict)
    progress: dict = field(default_factory=dict)


def write_checkpoint(folder, checkpoint, meta):
    """Write the files of a checkpoint into a folder, with the JSON object `meta`."""
    state, records = checkpoint.state, {}
    for scope, record in checkpoint.salience.items():
        records |= record.tensors(scope)
    meta = meta | {"round": state.round, "progress": checkpoint.progress}
    arrays = {name: getattr(state, name) for name in array_fields()}
    write_tensors(folder / "state.safetensors", joined(arrays), meta)
    write_tensors(folder / "salience.safetensors", records, {"round": state.round})
    write_tensors(folder / "clients.safetensors", joined(checkpoint.clients), {"round": state.round})


def read_checkpoint(folder):
    """Read what `write_checkpoint` wrote: (checkpoint, meta). Raises `FedgateError` for a missing or damaged file."""
    arrays, meta = read_tensors(folder / "state.safetensors")
    records, _ = read_tensors(folder / "salience.safetensors")
    clients, _ = read_tensors(folder / "clients.safetensors")
    fields = {name: {} for name in array_fields()} | split(arrays)
    scopes = sorted({key.split("/", 1)[0] for key in records})
    checkpoint = Checkpoint(
        ServerState(meta["round"], **fields),
        {scope: SalienceRecord.from_tensors(records, scope) for scope in scopes},
        {int(client): state for client, state in split(clients).items()},
        meta["progress"],
    )
    return checkpoint, meta


def array_fields():
    return [each.name for each in dataclasses.fields(ServerState) if each.name != "round"]


def joined(groups):
    """{group: {name: array}} as {"group/name": array}."""
    return {f"{group}/{name}": array for group, arrays in groups.items() for name, array in arrays.items()}


def split(arrays):
    """The inverse of `joined`; a group of nothing is lost."""
    groups = {}
    for key, array in arrays.items():
        group, name = key.split("/", 1)
        groups.setdefault(group, {})[name] = array
    return groups
