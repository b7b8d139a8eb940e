"""What each role of program takes and returns: the ports that runtimes and commands rely on.

By role; LEVEL stands for the input `level`, int32 (1,), which the programs of gated networks have, OPEN for the masks,
uint8 (1, channels), of the gated layers that a program runs, where there are any:

    dense, static    image -> logits
    masked, skip     image, LEVEL -> logits, OPEN
    trunk            image, LEVEL -> features, OPEN
    tail             PARAMETER..., features, LEVEL -> logits, OPEN
    train            PARAMETER..., momentum/PARAMETER..., features (B, ...), trunk/open uint8 (B, channels),
                     labels int32 (B,), weights (B,), LEVEL, lr, momentum, weight_decay, clip_norm
                     -> PARAMETER..., momentum/PARAMETER..., loss, correct, opened (channels,), strength (channels,)
    train-module     momentum/PARAMETER..., features ... clip_norm as above
                     -> loss, correct, opened, strength, momentum/PARAMETER...

What has no dtype here is float32, and a number has shape (1,). B is the tail's batch size, features are in the order
channels, height, width. `trunk/open` are the trunk's masks for each example, in programs whose parameters the trunk's
channels index. weights: of the examples in the loss, 0 for rows that only fill the batch. loss: their weighted mean;
correct, opened, strength: of the gated layers of the tail how many of the examples with a weight were right, opened a
channel, and how strongly in sum.

A `train-module` is the same step for ExecuTorch's TrainingModule: it holds the parameters, which lie beside it in a
file of the same stem, .ptd, and are tail.safetensors' at first. What that API calls the gradients are here whole steps
of SGD: its own SGD with learning rate 1 and nothing else subtracts them, which gives the parameters that `train` gives.
"""

from dataclasses import dataclass

from ..errors import FedgateError
from .checks import Fields
from .macs import mask_width
from .roles import INFERENCE_ROLES, TAIL_ROLES

DTYPES = ("float32", "int32", "int64", "uint8")
MOMENTUM = "momentum/"
TRUNK_OPEN = "trunk/open"
HYPERPARAMETERS = ("lr", "momentum", "weight_decay", "clip_norm")


@dataclass(frozen=True)
class Port:
    """One input or output of a program; `layout` is "NCHW" or "NHWC" for images and None otherwise."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    layout: str | None = None


@dataclass(frozen=True)
class TailInfo:
    """What a bundle's programs train. layers: names, the last of the network's; features: shape of one example's."""

    trainable: str
    layers: tuple[str, ...]
    features: tuple[int, ...]
    batch_size: int

    def split(self, layers):
        """The layers of the trunk and those of the tail."""
        cut = len(layers) - len(self.layers)
        return layers[:cut], layers[cut:]


@dataclass(frozen=True)
class Interface:
    """What the ports of a network's programs follow from. shape: (1, C, H, W); layers: all, in their order."""

    shape: tuple[int, ...]
    classes: int
    layers: tuple
    gated: bool
    tail: TailInfo | None = None


def parse_ports(fields: Fields, key: str) -> tuple[Port, ...]:
    """The checked ports of a program's manifest entry."""
    ports = []
    for item in fields.items(key, 1, 10_000):
        port = Fields(item, f"manifest.json: an item of '{key}'")
        layout = port.get("layout")
        ports.append(
            Port(
                name=port.text("name"),
                shape=port.wholes("shape", (0, 8), 1, 2**31),
                dtype=port.choice("dtype", DTYPES),
                layout=None if layout is None else port.choice("layout", ("NCHW", "NHWC")),
            )
        )
    if len({port.name for port in ports}) != len(ports):
        fields.refuse(key, "a list of different names")
    return tuple(ports)


def parse_tail(value, layers) -> TailInfo | None:
    """The checked "tail" of a manifest; None where a bundle trains nothing."""
    if value is None:
        return None
    fields = Fields(value, "manifest.json: 'tail'")
    tail = TailInfo(
        trainable=fields.choice("trainable", ("head", "last-stage")),
        layers=tuple(fields.items("layers", 1, len(layers))),
        features=fields.wholes("features", (1, 3), 1, 2**24),
        batch_size=fields.whole("batch_size", 1, 2**16),
    )
    if tail.layers != tuple(layer.name for layer in layers[len(layers) - len(tail.layers) :]):
        fields.refuse("layers", "the last of the network's layers")
    return tail


def check_ports(program, manifest) -> None:
    """Raise `FedgateError` unless a `Program` of a `Manifest` has the ports of its role."""
    inputs, outputs = signature(program, manifest)
    if program.inputs != inputs or program.outputs != outputs:
        raise FedgateError(f"manifest.json: the inputs or outputs of {program.file} do not fit its role")


def signature(program, manifest) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """The ports that a program of its role must have; parameters, and an image's layout, are those that it lists."""
    if manifest.tail is None and program.role in TAIL_ROLES:
        raise FedgateError(f"manifest.json has no 'tail', which {program.file} needs")
    takes_image = program.role in (*INFERENCE_ROLES, "trunk")
    own = () if takes_image else parameters(program)
    reads_trunk_open = any(port.name == TRUNK_OPEN for port in program.inputs)
    layout = program.inputs[0].layout if takes_image else None
    return role_ports(program.role, manifest.interface, own, reads_trunk_open, layout)


def role_ports(role, of: Interface, own=(), reads_trunk_open=False, layout="NCHW"):
    """(inputs, outputs) of a role's program of a network. own: the ports of a tail's parameters."""
    trunk_layers, tail_layers = ((), ()) if of.tail is None else of.tail.split(of.layers)
    level = (Port("level", (1,), "int32"),) if of.gated else ()
    image, logits = (image_port(layout, of.shape),), Port("logits", (1, of.classes))
    if role in ("dense", "static"):
        return image, (logits,)
    if role in ("masked", "skip"):
        return image + level, (logits, *masks("open", of.layers, 1))
    features = Port("features", (1, *of.tail.features))
    if role == "trunk":
        return image + level, (features, *masks("open", trunk_layers, 1))
    if role == "tail":
        return (*own, features, *level), (logits, *masks("open", tail_layers, 1))
    size, momenta = of.tail.batch_size, tuple(Port(MOMENTUM + port.name, port.shape) for port in own)
    trunk_open = masks(TRUNK_OPEN, trunk_layers, size) if reads_trunk_open else ()
    batch = (Port("features", (size, *of.tail.features)), *trunk_open, Port("labels", (size,), "int32"))
    numbers = tuple(Port(name, (1,)) for name in HYPERPARAMETERS)
    counts = [Port(name, (mask_width(tail_layers),)) for name in ("opened", "strength") if mask_width(tail_layers)]
    inputs = (*momenta, *batch, Port("weights", (size,)), *level, *numbers)
    results = (Port("loss", (1,)), Port("correct", (1,)), *counts)
    if role == "train-module":
        return inputs, (*results, *momenta)
    return (*own, *inputs), (*own, *momenta, *results)


def image_port(layout, shape) -> Port:
    """The port of an image of shape (1, C, H, W) in a layout."""
    _, channels, height, width = shape
    if layout == "NHWC":
        return Port("image", (1, height, width, channels), "float32", "NHWC")
    return Port("image", tuple(shape), "float32", "NCHW")


def masks(name, layers, count) -> tuple[Port, ...]:
    """The port of the masks of some layers for `count` examples; none where no layer has a gate."""
    width = mask_width(layers)
    return (Port(name, (count, width), "uint8"),) if width else ()


def parameters(program) -> tuple[Port, ...]:
    """The parameters of a program of the tail: its inputs in front of the momenta, or of the features.

    A `train-module` takes momenta alone, and has the parameters that these are of.
    """
    names = [port.name for port in program.inputs]
    ends = [i for i, name in enumerate(names) if name == "features" or name.startswith(MOMENTUM)]
    if program.role == "train-module":
        ends = [i for i, name in enumerate(names) if not name.startswith(MOMENTUM)]
    own = program.inputs[: ends[0]] if ends else ()
    own = tuple(Port(port.name.removeprefix(MOMENTUM), port.shape) for port in own)
    if not own or any("." not in port.name for port in own):
        raise FedgateError(f"manifest.json: the inputs of {program.file} do not begin with a tail's parameters")
    return own
