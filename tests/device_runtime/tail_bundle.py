"""The manifest and the tail file of a bundle that trains the last layers of `tiny_bundle`'s network."""

import numpy as np
import tiny_bundle

from fedgate.device_runtime.formats.tail import Tail
from fedgate.device_runtime.formats.tensors import tensors_hash
from fedgate.device_runtime.formats.update import UpdateSpec

BATCH = 4
SHAPES = {
    "head.bias": (5,),
    "head.weight": (5, 24),
    "two.conv.weight": (24, 16, 3, 3),
    "two.gate.predictor.weight": (24, 16),
    "two.norms.0.weight": (24,),
    "two.norms.1.weight": (24,),
}
AXES = {
    "head.bias": (None,),
    "head.weight": (None, "two"),
    "two.conv.weight": ("two", "one", None, None),
    "two.gate.predictor.weight": ("two", "one"),
    "two.norms.0.weight": ("two",),
    "two.norms.1.weight": ("two",),
}
WEIGHTS = "executorch-train-module.ptd"
INFO = {"trainable": "last-stage", "layers": ["two", "head"], "features": [16, 8, 8], "batch_size": BATCH}


def port(name, shape, dtype="float32"):
    return {"name": name, "shape": list(shape), "dtype": dtype, "layout": None}


def entries(hashes):
    """The manifest's entries of a trunk, a tail, a train program and a training module."""
    own = [port(name, shape) for name, shape in SHAPES.items()]
    momenta = [port(f"momentum/{name}", shape) for name, shape in SHAPES.items()]
    level = port("level", [1], "int32")
    features, opened = port("features", [1, 16, 8, 8]), port("open", [1, 16], "uint8")
    image = {"name": "image", "shape": [1, 8, 8, 3], "dtype": "float32", "layout": "NHWC"}
    batch = [port("features", [BATCH, 16, 8, 8]), port("trunk/open", [BATCH, 16], "uint8")]
    batch += [port("labels", [BATCH], "int32"), port("weights", [BATCH])]
    numbers = [port(name, [1]) for name in ("lr", "momentum", "weight_decay", "clip_norm")]
    results = [port("loss", [1]), port("correct", [1]), port("opened", [24]), port("strength", [24])]
    logits, tail_open = port("logits", [1, 5]), port("open", [1, 24], "uint8")
    made = {
        "trunk": ([image, level], [features, opened]),
        "tail": ([*own, features, level], [logits, tail_open]),
        "train": ([*own, *momenta, *batch, level, *numbers], [*own, *momenta, *results]),
        "train-module": ([*momenta, *batch, level, *numbers], [*results, *momenta]),
    }
    entries = [
        {"file": f"litert-{role}.tflite", "runtime": "litert", "role": role, "precision": "fp32",
         "tolerance": 1e-4, "level": None, "inputs": inputs, "outputs": outputs, "needs_kernel": False,
         "kernel_layers": []} | hashes
        for role, (inputs, outputs) in made.items()
    ]  # fmt: skip
    entries[-1] |= {"file": "executorch-train-module.pte", "runtime": "executorch"}
    return entries


def fields(hashes):
    """The fields of a manifest of a bundle that trains."""
    files = dict.fromkeys(("salience.safetensors", "reference.safetensors", "tail.safetensors", WEIGHTS), hashes)
    return {**tiny_bundle.fields(entries(hashes)), "files": files, "tail": dict(INFO)}


def tail():
    draw = np.random.default_rng(5)
    trained = {name: draw.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    spec = UpdateSpec(
        parameters=dict(SHAPES),
        axes=dict(AXES),
        channels={"one": 16, "two": 24},
        levels=2,
        run="digits-0",
        base_round=3,
        base_hash=tensors_hash(trained),
        level_of={"two.norms.0.weight": 0, "two.norms.1.weight": 1},
    )
    return Tail(trained | {"two.norms.0.running_mean": np.zeros(24, np.float32)}, spec)
