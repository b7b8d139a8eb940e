"""What is trained for each of the questions: arms, each some options of `TrainConfig` under a name.

Questions a and b are asked of federations, c and d of networks that one client trains on all images (with a preset: of
federations of that preset). Arms with the same options are one training, whichever question asks.
"""

import functools
from dataclasses import dataclass

from communication import ARMS

from fedgate.device_runtime.formats import macs
from fedgate.train.network.build import build_network

PARTS = {
    "a": "over-fitting: the gap between training and test images, by client",
    "b": "communication: rounds and bytes to dense FedAvg's accuracy",
    "c": "accuracy against executed MACs, beside slim networks of the same MACs",
    "d": "latency, MACs and accuracy of the programs of c's networks",
}
GATES = ("paper", "fbs")
KINDS = {
    "paper": "`paper` gates",
    "fbs": "`fbs` gates",
    "hidden": "`paper` gates on hidden convolutions alone",
    "slim": "fewer channels everywhere",
    "slim-scale": "the same with a scale for each input",
    "narrow": "fewer hidden channels, the residual streams whole",
    "narrow-scale": "the same with a scale for each input",
}
ALGORITHMS = ("fedavg", "fedprox", "fednova", "scaffold")
CODECS = ("dense-int8", "dense-int4", "gated-int8", "gated-int4")  # of `communication.ARMS`, with FedAvg alone
UPLOADS = {
    "dense": ARMS["dense"],
    "gated, full upload": ARMS["gated"] | {"upload": "full"},
    "gated, salient upload": ARMS["gated"],
}


@dataclass(frozen=True)
class Arm:
    """options: of `TrainConfig`, beside those that all arms share. kind: "dense", or what makes it smaller (`KINDS`).

    density: of `paper` and `fbs` gates on all convolutions, or, of other kinds, the one whose MACs it has.
    """

    name: str
    kind: str
    density: float
    options: dict

    @property
    def gated(self):
        return self.options["gate"] != "none"

    @property
    def chooses(self):
        """Whether its gates choose channels, and do not scale them alone."""
        return self.options["gate"] in GATES


def federated_arms(density, algorithms=ALGORITHMS, uploads=tuple(UPLOADS), codecs=CODECS):
    """The arms of questions a and b; the first is dense FedAvg, which sets the target. Codecs with FedAvg alone."""
    arms = []
    for algorithm in algorithms:
        chosen = {name: UPLOADS[name] for name in uploads}
        chosen |= {name: ARMS[name] for name in codecs if algorithm == "fedavg"}
        for name, options in chosen.items():
            gated = options["gate"] != "none"
            options = options | {"algorithm": algorithm, "density": (density if gated else 1.0,)}
            kind, known = (options["gate"], density) if gated else ("dense", 1.0)
            arms.append(Arm(f"{algorithm}, {name}", kind, known, options))
    return arms


def central_arms(model, classes, shape, densities, kinds=tuple(KINDS)):
    """The arms of questions c and d: dense first, the gates at each density, and the controls of the same MACs.

    Controls have the width, and hidden gates the density, whose nominal MACs are nearest to those of gates on all
    convolutions; a scale for each input is paid for out of the same MACs. At density 1 dense is the slim network, and
    `paper` the control with a scale alone. Networks without residual streams have no hidden and no narrow arms.
    kinds: those of `KINDS` that are wanted.
    """
    cost = functools.partial(nominal_macs, model, classes, shape)
    streams = cost("paper", 0.5, gated="hidden") != cost("paper", 0.5)
    arms = [Arm("dense", "dense", 1.0, {"gate": "none", "density": (1.0,)})]
    for density in densities:
        for gate in GATES if density < 1 else GATES[:1]:
            arms.append(Arm(f"{gate} {density:g}", gate, density, {"gate": gate, "density": (density,)}))
    for density in (density for density in densities if density < 1):
        wanted = cost("paper", density)
        plain, scaled, hidden = {"gate": "none"}, {"gate": "scale"}, {"gated": "hidden"}
        found = {"slim": ("width", plain), "slim-scale": ("width", scaled)}
        if streams:
            found |= {
                "hidden": ("density", {"gate": "paper"} | hidden),
                "narrow": ("hidden_width", plain),
                "narrow-scale": ("hidden_width", scaled | hidden),
            }
        for kind, (dial, chosen) in found.items():
            options = {"density": 1.0} | chosen
            options[dial] = nearest(wanted, lambda value, dial=dial, options=options: cost(**options | {dial: value}))
            arms.append(Arm(f"{kind} {density:g}", kind, density, options | {"density": (options["density"],)}))
    return [arm for arm in arms if arm.kind in ("dense", *kinds)]


def nominal_macs(model, classes, shape, gate, density, gated="all", **widths):
    """MACs an image of a registered model, gates included, when every mask keeps its density."""
    network = build_network(model, gate, (density,), classes, shape, gated=gated, **widths)
    return macs.total(macs.nominal(network.layers, density))


def nearest(wanted, macs_at):
    """The value in (0, 1], in hundredths, whose MACs are nearest to `wanted`; macs_at: value -> MACs, not falling."""
    low, high = 1, 100
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if macs_at(middle / 100) <= wanted else (low, middle)
    return min(low, high, key=lambda value: abs(macs_at(value / 100) - wanted)) / 100
