"""Lowers a network, puts the program where a runtime finds it, and runs it, here or in another environment."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedgate.device_runtime.engines import Prediction, open_program
from fedgate.device_runtime.formats.bundle import Bundle, listing
from fedgate.device_runtime.formats.manifest import Program, parse_manifest, render_manifest
from fedgate.export.programs import image_plan, interface

NOTHING = {"sha256": "0" * 64, "bytes": 0}
RUNNER = Path(__file__).with_name("run_program.py")


def bare_fields(network, classes=10):
    """What the manifest of an untrained network's bundle says beside its programs and files."""
    return {
        "model": "test",
        "gate": network.gate,
        "width": 1.0,
        "dataset": "digits",
        "labels": [str(i) for i in range(classes)],
        "input": {
            "shape": [1, *network.shape],
            "layout": "NCHW",
            "mean": [0.0] * network.shape[0],
            "std": [1.0] * network.shape[0],
        },
        "densities": list(network.densities),
        "default_level": len(network.densities) - 1,
        "layers": [layer.to_json() for layer in network.layers],
        "training": {},
    }


def plan(role, body, network, classes=10, level=None):
    """The `Plan` of an eval network of a network, which is compared by the caller."""
    return image_plan(role, body, interface(network, classes), None, level)


def lowered(plan, runtime, network, folder):
    """A bundle in `folder` with one program alone, of a `Plan` for a network; no records, so only good to be run."""
    program, files = plan.make(runtime)
    ((name, data),) = files.items()
    (folder / name).write_bytes(data)
    fields = bare_fields(network, plan.outputs[0].shape[1]) | {
        "programs": [program | listing(data)],
        "files": {"salience.safetensors": NOTHING, "reference.safetensors": NOTHING},
    }
    (folder / "manifest.json").write_bytes(render_manifest(fields))
    return Bundle(folder, parse_manifest((folder / "manifest.json").read_bytes()))


def load(bundle):
    """The one program of a bundle by `lowered`, loaded."""
    return open_program(bundle, bundle.manifest.programs[0])


@dataclass
class Played:
    """What a program returned elsewhere, as a `Model` of the same images, level after level; it counts no MACs."""

    program: Program
    images: np.ndarray
    logits: np.ndarray  # (levels, n, classes)
    open: np.ndarray | None  # (levels, n, sum of C_out)

    def run(self, image, level):
        (index,) = np.flatnonzero((self.images == image).all((1, 2, 3)))[:1]
        row = level if self.program.takes_level else 0
        opened = None if self.open is None else self.open[row, [index]]
        return Prediction(self.logits[row, [index]], opened, 0.0, self.program, level)


def load_elsewhere(bundle, images, environment):
    """Run the program of a bundle on images in an environment (a folder) that has neither torch nor our runtime."""
    np.save(bundle.path / "images.npy", images)
    command = [environment / "bin" / "python", RUNNER, bundle.path]
    done = subprocess.run(command, capture_output=True, text=True, cwd=bundle.path, timeout=500)
    assert done.returncode == 0, done.stderr
    with np.load(bundle.path / "results.npz") as results:
        logits, masks = results["logits"], results.get("open")
    return Played(bundle.manifest.programs[0], images, logits, masks)
