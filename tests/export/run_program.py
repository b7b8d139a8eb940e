"""Run in an environment with a device's packages alone: the program of the bundle in argv[1] on its images.npy.

Writes results.npz: logits (levels, n, classes) and, from programs that take a level, open (levels, n, sum of C_out).
"""

import sys
from pathlib import Path

import numpy as np

from fedgate.device_runtime.engines import open_program
from fedgate.device_runtime.formats.bundle import Bundle
from fedgate.device_runtime.formats.manifest import parse_manifest

folder = Path(sys.argv[1])
manifest = parse_manifest((folder / "manifest.json").read_bytes())
(program,) = manifest.programs
loaded = open_program(Bundle(folder, manifest), program)
levels = range(len(manifest.densities)) if program.takes_level else [program.level]
runs = [[loaded.run(image[None], level) for image in np.load(folder / "images.npy")] for level in levels]
results = {"logits": np.array([[found.logits[0] for found in row] for row in runs])}
if program.takes_level:
    results["open"] = np.array([[found.open[0] for found in row] for row in runs])
np.savez(folder / "results.npz", **results)
