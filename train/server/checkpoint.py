"""A checkpoint: everything that the rounds after it depend on, and the folder that holds it.

state.safetensors: the server's arrays as `FIELD/NAME` by the fields of `ServerState`; salience.safetensors: records by
scope; clients.safetensors: what clients keep between rounds, as `CLIENT/NAME`. Where any are needed,
waiting.safetensors: updates that wait for a later round, `blob/I` and `state-I/NAME` of number I, and older states as
`base-ROUND/NAME`.
"""

import dataclasses
from dataclasses import dataclass, field

import numpy as np

from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.formats.tensors import read_tensors, write_tensors

from ..network.salience import SalienceRecord
from ..strategies import ServerState
from .arrivals import Upload

# What a client keeps to itself between two rounds: arrays named PURPOSE/PARAMETER.
ClientState = dict[str, np.ndarray]

UPLOAD = ("client", "base_round", "arrives", "level")  # what is written of an `Upload` beside its arrays


@dataclass(frozen=True)
class Checkpoint:
    """state: after a finished round. salience: by scope. clients: of those that keep anything, by number.

    progress: what resuming needs beside arrays: byte lengths of the logs, totals so far. waiting: good updates that
    came too late. bases: tensors by round of the older states to which updates may still refer.
    """

    state: ServerState
    salience: dict[str, SalienceRecord] = field(default_factory=dict)
    clients: dict[int, ClientState] = field(default_factory=dict)
    progress: dict = field(default_factory=dict)
    waiting: list[Upload] = field(default_factory=list)
    bases: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)


def write_checkpoint(folder, checkpoint, meta):
    """Write the files of a checkpoint into a folder, with the JSON object `meta`; a state has to be finite."""
    state, records = checkpoint.state, {}
    check_finite(state)
    for scope, record in checkpoint.salience.items():
        records |= record.tensors(scope)
    meta = meta | {"round": state.round, "progress": checkpoint.progress, "bases": sorted(checkpoint.bases)}
    meta["waiting"] = [{name: getattr(upload, name) for name in UPLOAD} for upload in checkpoint.waiting]
    arrays = {name: getattr(state, name) for name in array_fields()}
    write_tensors(folder / "state.safetensors", joined(arrays), meta)
    write_tensors(folder / "salience.safetensors", records, {"round": state.round})
    write_tensors(folder / "clients.safetensors", joined(checkpoint.clients), {"round": state.round})
    if checkpoint.waiting or checkpoint.bases:
        groups = {"blob": {str(i): np.frombuffer(u.blob, np.uint8) for i, u in enumerate(checkpoint.waiting)}}
        groups |= {f"state-{i}": upload.state for i, upload in enumerate(checkpoint.waiting)}
        groups |= {f"base-{base}": tensors for base, tensors in checkpoint.bases.items()}
        write_tensors(folder / "waiting.safetensors", joined(groups), {"round": state.round})


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
        *read_waiting(folder, meta["waiting"], meta["bases"]),
    )
    return checkpoint, meta


def read_waiting(folder, waiting, bases):
    """The uploads and the older states of a checkpoint whose `meta` lists them."""
    groups = split(read_tensors(folder / "waiting.safetensors")[0]) if waiting or bases else {}
    uploads = [
        Upload(blob=groups["blob"][str(i)].tobytes(), state=groups.get(f"state-{i}", {}), **known)
        for i, known in enumerate(waiting)
    ]
    return uploads, {base: groups[f"base-{base}"] for base in bases}


def check_finite(state):
    """Refuse a state from which no client could train."""
    for field_ in array_fields():
        for name, array in getattr(state, field_).items():
            if not np.isfinite(array).all():
                raise FedgateError(f"its {field_}/{name} holds values that are not finite")


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
