"""A manifest alone: reading examples needs no programs."""

import pytest

from fedgate.device_runtime.formats.macs import Layer
from fedgate.device_runtime.formats.manifest import parse_manifest, render_manifest


@pytest.fixture(scope="session")
def manifest():
    """Of a network of 8x8 RGB images, four classes and two densities."""
    layers = [
        Layer("conv", "conv", 3, 4, (3, 3), (8, 8)),
        Layer("gated", "conv", 4, 6, (3, 3), (4, 4), gate=True),
        Layer("head", "linear", 6, 4, (1, 1), (1, 1), input_gate="gated"),
    ]
    file = {"sha256": "0" * 64, "bytes": 0}
    fields = {
        "model": "small",
        "gate": "paper",
        "width": 1.0,
        "dataset": "made-up",
        "labels": ["cat", "dog", "owl", "yak"],
        "input": {"shape": [1, 3, 8, 8], "layout": "NCHW", "mean": [0.5] * 3, "std": [0.25] * 3},
        "densities": [0.5, 1.0],
        "default_level": 1,
        "layers": [layer.to_json() for layer in layers],
        "training": {},
        "programs": [],
        "files": {"salience.safetensors": file, "reference.safetensors": file},
    }
    return parse_manifest(render_manifest(fields))
