"""Counting multiply-adds: of the dense network, at a density, and as executed under the masks that occurred.

1 MAC is one multiply-add. A gate adds its predictor, a matrix (C_out, C_in) of which the columns of closed input
channels are not read. Norms, activations and the salience's means are not counted.
"""

from dataclasses import asdict, dataclass

import numpy as np

from ..errors import FedgateError
from .checks import Fields

KINDS = ("conv", "linear")
# Far above any network, and low enough that no count of a file from a stranger leaves an int64.
MOST_CHANNELS = 2**16
MOST_MACS = 2**50


@dataclass(frozen=True)
class Layer:
    """One convolution or linear layer. `kernel` and `output` are (height, width), (1, 1) for linear.

    `gate`: a mask of its own closes output channels of this layer. `input_gate`: the gated layer whose mask closes
    input channels of this one; a linear layer after a flatten has `in_channels` = C * positions, and its feature i
    belongs to channel i // positions. `masked`: False where the gate only scales, and all channels are open.
    """

    name: str
    kind: str
    in_channels: int
    out_channels: int
    kernel: tuple[int, int]
    output: tuple[int, int]
    gate: bool = False
    input_gate: str | None = None
    masked: bool = True

    def to_json(self) -> dict:
        return {**asdict(self), "kernel": list(self.kernel), "output": list(self.output)}


def layers_from_json(value, where: str = "'layers'") -> tuple[Layer, ...]:
    """The layers of a JSON list by `Layer.to_json`, checked. Raises `FedgateError`."""
    if not isinstance(value, list):
        raise FedgateError(f"{where} must be a list")
    layers = [_layer(item, f"{where}, item {index}") for index, item in enumerate(value)]
    seen: dict[str, Layer] = {}
    for layer in layers:
        if layer.name in seen:
            raise FedgateError(f"{where} names '{layer.name}' twice")
        if layer.input_gate is not None:
            source = seen.get(layer.input_gate)
            if source is None or not source.gate:
                raise FedgateError(f"layer '{layer.name}': 'input_gate' must name an earlier gated layer")
            fits = layer.in_channels == source.out_channels or (
                layer.kind == "linear" and layer.in_channels % source.out_channels == 0
            )
            if not fits:
                raise FedgateError(
                    f"layer '{layer.name}' reads {layer.in_channels} channels of '{source.name}', "
                    f"which has {source.out_channels}"
                )
        seen[layer.name] = layer
    return tuple(layers)


def _layer(value, where: str) -> Layer:
    fields = Fields(value, where)
    input_gate = fields.get("input_gate")
    layer = Layer(
        name=fields.text("name"),
        kind=fields.choice("kind", KINDS),
        in_channels=fields.whole("in_channels", 1, 2**24),
        out_channels=fields.whole("out_channels", 1, MOST_CHANNELS),
        kernel=fields.wholes("kernel", (2, 2), 1, 2**10),
        output=fields.wholes("output", (2, 2), 1, 2**14),
        gate=fields.flag("gate"),
        input_gate=None if input_gate is None else fields.text("input_gate"),
        masked=fields.flag("masked"),
    )
    if layer.kind == "linear" and (layer.kernel, layer.output) != ((1, 1), (1, 1)):
        raise FedgateError(f"{where}: a linear layer has kernel and output [1, 1]")
    if dense_macs(layer) > MOST_MACS:
        raise FedgateError(f"{where}: more than 2^50 MACs")
    return layer


def gated(layers) -> list[Layer]:
    """The layers with a mask of their own, in order: the order of the channels in `open`."""
    return [layer for layer in layers if layer.gate]


def mask_slices(layers) -> dict[str, slice]:
    """For each gated layer the columns of `open`, uint8 (N, sum of C_out), that are its own."""
    ends = np.cumsum([0] + [layer.out_channels for layer in gated(layers)]).tolist()
    return {layer.name: slice(ends[i], ends[i + 1]) for i, layer in enumerate(gated(layers))}


def mask_width(layers) -> int:
    """The sum of C_out over the gated layers."""
    return sum(layer.out_channels for layer in gated(layers))


def open_count(density: float, channels: int) -> int:
    """How many of `channels` a gate keeps: floor(density * channels + 0.5), at least 1 and at most all."""
    return min(max(int(density * channels + 0.5), 1), channels)


def dense_macs(layer: Layer) -> int:
    """MACs of the layer with every channel open and no gate."""
    (kh, kw), (oh, ow) = layer.kernel, layer.output
    return layer.in_channels * layer.out_channels * kh * kw * oh * ow


def dense(layers) -> dict[str, int]:
    """MACs by layer of the network without gates."""
    return {layer.name: dense_macs(layer) for layer in layers}


def nominal(layers, density: float) -> dict[str, int]:
    """MACs by layer, gates included, when every mask keeps `open_count(density, C_out)` channels."""
    open_out = {
        layer.name: open_count(density, layer.out_channels) if layer.masked else layer.out_channels
        for layer in gated(layers)
    }
    return _count(layers, open_out)


def executed(layers, open: np.ndarray) -> dict[str, np.ndarray]:
    """MACs by layer, gates included, under the masks `open`, uint8 (N, sum of C_out); each int64 (N,).

    A closed output channel is not computed, a closed input channel is not read. Raises `FedgateError` for masks of
    another shape.
    """
    open = np.asarray(open)
    if open.ndim != 2 or open.shape[1] != mask_width(layers):
        raise FedgateError(f"masks of shape {open.shape} do not fit {mask_width(layers)} gated channels")
    open_out = {
        name: np.count_nonzero(open[:, columns], axis=1).astype(np.int64)
        for name, columns in mask_slices(layers).items()
    }
    counts = _count(layers, open_out)
    return {name: np.broadcast_to(np.int64(macs), (len(open),)).copy() for name, macs in counts.items()}


def total(macs: dict):
    """The sum over the layers: an int, or int64 (N,) for `executed`."""
    return sum(macs.values())


def _count(layers, open_out: dict) -> dict:
    """MACs by layer; `open_out` holds each gated layer's open channels, as a number or int64 (N,)."""
    by_name = {layer.name: layer for layer in layers}
    counts = {}
    for layer in layers:
        open_in = layer.in_channels
        if layer.input_gate is not None:
            positions = layer.in_channels // by_name[layer.input_gate].out_channels
            open_in = open_out[layer.input_gate] * positions
        outputs = open_out[layer.name] if layer.gate else layer.out_channels
        (kh, kw), (oh, ow) = layer.kernel, layer.output
        counts[layer.name] = open_in * outputs * (kh * kw * oh * ow)
        if layer.gate:
            counts[layer.name] = counts[layer.name] + open_in * layer.out_channels
    return counts
