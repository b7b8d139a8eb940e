"""The update that a trained tail becomes."""

from dataclasses import dataclass

import numpy as np

from ..formats.bundle import Bundle
from ..formats.macs import gated, mask_slices
from ..formats.salience import SalienceRecord
from ..formats.tail import Tail
from ..formats.uploads import encode_upload
from .plan import TunePlan
from .state import TailState


@dataclass(frozen=True)
class TailResult:
    """What `uploads.encode_upload` reads of a local training."""

    salience: SalienceRecord
    steps: int
    touched: dict[str, np.ndarray]
    levels: tuple[int, ...]
    control: dict[str, np.ndarray]


def tail_result(bundle: Bundle, state: TailState, level: int) -> TailResult:
    """The result of a local training at one level, by layer of the whole network."""
    layers, levels = bundle.manifest.layers, len(bundle.manifest.densities)
    columns = mask_slices(layers)
    opened, strength = ({name: np.zeros((levels, s.stop - s.start)) for name, s in columns.items()} for _ in range(2))
    for name, where in columns.items():
        opened[name][level] = state.opened[where]
        strength[name][level] = state.strength[where]
    for name, estimate in _trunk_strength(bundle, state, level).items():
        strength[name][level] = estimate
    samples = np.zeros(levels, np.int64)
    samples[level] = state.samples if columns else 0
    touched = {name: state.touched[where].astype(bool) for name, where in columns.items()}
    return TailResult(SalienceRecord(opened, strength, samples), state.steps, touched, (level,), {})


def _trunk_strength(bundle: Bundle, state: TailState, level: int) -> dict[str, np.ndarray]:
    """How strongly the trunk's channels were opened, float64 (C,) by layer.

    A trunk program says which channels were open and not how far. Its gates are those of the run that it comes from, so
    each opening counts with the mean strength of that channel in the bundle's record.
    """
    record = bundle.salience().get("global")
    trunk, _ = bundle.manifest.tail.split(bundle.manifest.layers)
    columns, found = mask_slices(bundle.manifest.layers), {}
    for layer in gated(trunk):
        counts = state.opened[columns[layer.name]]
        mean = np.ones(layer.out_channels)
        if record is not None:
            times = record.opened[layer.name][level]
            mean = np.where(times > 0, record.strength[layer.name][level] / np.maximum(times, 1), mean)
        found[layer.name] = counts * mean
    return found


def encode_tail_update(bundle: Bundle, spec, base: dict, trained: TailState, plan: TunePlan, client, examples, state):
    """What a client sends back, and what it keeps: (blob, its new state); see `uploads.encode_upload`.

    spec, base: of the round whose weights the training began with.
    """
    result = tail_result(bundle, trained, plan.level)
    return encode_upload(base | trained.parameters, result, spec, base, client, examples, plan, state)


def start_parameters(tail: Tail, weights: dict, train_ports) -> dict[str, np.ndarray]:
    """The trained parameters that a training begins with. weights: those of a download, or of the tail itself."""
    return {name: np.asarray(weights.get(name, tail.tensors[name])) for name in train_ports}


def update_name(client: int) -> str:
    """Of the file of a client's update."""
    return f"update-client-{client}.safetensors"
