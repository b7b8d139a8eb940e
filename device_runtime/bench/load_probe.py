"""Loads one program in this fresh process and prints what that cost, as JSON; `bench` starts it.

python -m fedgate.device_runtime.bench.load_probe BUNDLE FILE LEVEL THREADS [PERSONAL]
"""

import json
import sys
import time
from pathlib import Path

from ..board.machine import peak_rss_mb
from ..engines import import_runtime
from ..formats.bundle import load_bundle
from ..tuning.model import open_model
from ..tuning.personal import load_personal


def main(path: str, file: str, level: int, threads: int, personal: str | None = None) -> dict:
    bundle = load_bundle(Path(path))
    tuned = None if personal is None else load_personal(Path(personal), bundle)
    program = bundle.manifest.named(file)
    image = bundle.reference().image[:1]
    import_runtime(program.runtime)
    start = time.perf_counter()
    loaded = open_model(bundle, program, tuned, threads)
    ready = time.perf_counter()
    loaded.run(image, level)
    first = time.perf_counter()
    return {
        "load_ms": (ready - start) * 1e3,
        "first_ms": (first - ready) * 1e3,
        "peak_rss_mb": peak_rss_mb(),
    }


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:3], int(sys.argv[3]), int(sys.argv[4]), *sys.argv[5:])))
