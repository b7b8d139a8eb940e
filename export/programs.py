"""The programs of a bundle: which there are, the eval network of each, and their entries in the manifest."""

from dataclasses import dataclass

from torch import nn

from fedgate.device_runtime.formats.macs import mask_width

from .eval_networks import dense_network, masked_network, static_network
from .lowering import LOWERINGS
from .skip import kernel_layers, skip_network

SKIP_ENGINES = ("executorch", "litert", "onnx")  # those for which the kernel has an operator


@dataclass(frozen=True)
class Plan:
    """One program to make; kept: of a static program, the channels of each gated layer; engines: those it is for."""

    role: str
    network: nn.Module
    level: int | None = None
    kept: dict | None = None
    engines: tuple[str, ...] = tuple(LOWERINGS)

    @property
    def takes_level(self):
        return self.role in ("masked", "skip")

    @property
    def stem(self):
        return self.role if self.level is None else f"{self.role}-{self.level}"


def plan_programs(network, dense, kept_by_level):
    """The programs of a gated network: dense, masked, skip, and a static one a level; a plain one has dense only.

    dense: the network whose `dense` program is the baseline. kept_by_level: level -> channels by layer, for the levels
    that get a static program.
    """
    plans = [Plan("dense", dense_network(dense))]
    if network.gates:
        plans.append(Plan("masked", masked_network(network)))
        skip = skip_network(network)
        if kernel_layers(skip):
            plans.append(Plan("skip", skip, engines=SKIP_ENGINES))
        for level, kept in kept_by_level.items():
            plans.append(Plan("static", static_network(network, level, kept), level, kept))
    return plans


def entry(plan, engine, network, classes):
    """The manifest's entry of a program, without its hash."""
    suffix, layout, *_ = LOWERINGS[engine]
    c, h, w = network.shape
    image = [1, c, h, w] if layout == "NCHW" else [1, h, w, c]
    inputs = [{"name": "image", "shape": image, "dtype": "float32", "layout": layout}]
    outputs = [{"name": "logits", "shape": [1, classes], "dtype": "float32", "layout": None}]
    if plan.takes_level:
        inputs.append({"name": "level", "shape": [1], "dtype": "int32", "layout": None})
        outputs.append({"name": "open", "shape": [1, mask_width(network.layers)], "dtype": "uint8", "layout": None})
    return {
        "file": f"{engine}-{plan.stem}.{suffix}",
        "engine": engine,
        "role": plan.role,
        "level": plan.level,
        "inputs": inputs,
        "outputs": outputs,
        "needs_kernel": plan.role == "skip",
        "kernel_layers": list(kernel_layers(plan.network)),
    }
