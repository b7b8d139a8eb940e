"""What paper.py trains for each of its questions: arms, each some options of `TrainConfig` under a name.

Questions a and b are asked of federations, c and d of networks that one client trains on all images (with a preset: of
federations of that preset). Arms with the same options are one training, whichever question asks.
"""

import functools
from dataclasses import dataclass

from communication import ARMS

from fedgate.device_runtime import macs
from fedgate.train.network import build_network

PARTS = {
    "a": "over-fitting: the gap between training and test images, by client",
    "b": "communication: rounds and bytes to dense FedAvg's accuracy",
    "c": "accuracy against executed MACs, beside slim networks of the same MACs",
    "d": "latency, MACs and accuracy of the programs of c's networks",
}
GATES = ("paper", "fbs")
ALGORITHMS = ("fedavg", "fedprox", "fednova", "scaffold")
CODECS = ("dense-int8", "dense-int4", "gated-int8", "gated-int4")  # of `communication.ARMS`, with FedAvg alone
UPLOADS = {
    "dense": ARMS["dense"],
    "gated, full upload": ARMS["gated"] | {"upload": "full"},
    "gated, salient upload": ARMS["gated"],
}


@dataclass(frozen=True)
class Arm:
    """options: of `TrainConfig`, beside those that all arms share. kind: "dense", a gate's name, "slim", "slim-scale".

    density: of the gates, or, of a slim network, the one whose MACs it has.
    """

    name: str
    kind: str
    density: float
    options: dict

    @property
    def gated(self):
        return self.options["gate"] != "none"


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


def central_arms(model, classes, shape, densities):
    """The arms of questions c and d: dense first, the gates at each density, and the slim controls of the same MACs.

    A slim network has the `--width` whose MACs are nearest to the nominal ones of the gates at a density; the one with
    a scale for each input pays for the scale out of the same MACs. At density 1 dense is the slim
    network, and `paper` the control with a scale alone.
    """
    arms = [Arm("dense", "dense", 1.0, {"gate": "none", "density": (1.0,)})]
    for density in densities:
        for gate in GATES if density < 1 else GATES[:1]:
            arms.append(Arm(f"{gate} {density:g}", gate, density, {"gate": gate, "density": (density,)}))
    for density in densities:
        if density < 1:
            wanted = nominal_macs(model, classes, shape, "paper", density)
            for kind, gate in (("slim", "none"), ("slim-scale", "scale")):
                width = slim_width(wanted, functools.partial(nominal_macs, model, classes, shape, gate, 1.0))
                options = {"gate": gate, "density": (1.0,), "width": width}
                arms.append(Arm(f"{kind} {density:g}", kind, density, options))
    return arms


def nominal_macs(model, classes, shape, gate, density, width=1.0):
    """MACs an image of a registered model, gates included, when every mask keeps its density."""
    return macs.total(macs.nominal(build_network(model, gate, (density,), classes, shape, width).layers, density))


def slim_width(wanted, macs_at):
    """The width in (0, 1], in hundredths, whose MACs are nearest to `wanted`; macs_at: width -> MACs, not falling."""
    low, high = 1, 100
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if macs_at(middle / 100) <= wanted else (low, middle)
    return min(low, high, key=lambda width: abs(macs_at(width / 100) - wanted)) / 100
