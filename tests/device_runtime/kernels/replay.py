"""Cases through replay.cpp: the kernel's sources under another compiler, other flags or an emulator."""

import hashlib
import os
import subprocess
from pathlib import Path

import numpy as np
from cases import Case, judge

from fedgate.device_runtime.kernels import build

HERE = Path(__file__).parent
# kept from session to session, each under a hash of its sources and flags
FOLDER = HERE.parents[2] / "build" / "kernel-tests"
FLAGS = ("-std=gnu++20", "-O2", "-Wno-psabi", "-fno-math-errno", f"-I{build.SOURCES}")
PARTS = ("microkernels/*.cpp", "operator/*.cpp", "own_pool.cpp", "pool.cpp")
KERNEL = tuple(path for part in PARTS for path in sorted(build.SOURCES.glob(part)))
# what each program is made of beside its own file
SOURCES = {
    "replay.cpp": KERNEL,
    "pool_stress.cpp": (build.SOURCES / "pool.cpp",),
}


def compile_program(compiler: str, *flags: str, source: str = "replay.cpp") -> Path:
    """A C++ program of this folder; flags: of the compiler, or a library to link instead of the kernel's sources."""
    linked = any(flag.endswith(".so") for flag in flags)
    sources = [HERE / source, *(() if linked else SOURCES[source])]
    recipe = [build.source_digest(), sources[0].read_text(), compiler, *FLAGS, *flags]
    path = FOLDER / f"{Path(source).stem}-{hashlib.sha256(repr(recipe).encode()).hexdigest()[:12]}"
    if not path.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")
        subprocess.run([compiler, *FLAGS, *sources, *flags, "-pthread", "-o", part], check=True)
        part.replace(path)
    return path


def run(command, cases: list[Case], folder: Path, isa: str, threads: int, env=None) -> int:
    """Replay the cases and judge each; returns the allocations made by calls of a shape that was called before.

    command: the program, behind its emulator if it has one. Fails if it says anything, which is how sanitizers speak.
    """
    inputs, outputs = folder / "cases", folder / "results"
    inputs.write_bytes(np.int32(len(cases)).tobytes() + b"".join(map(encode, cases)))
    command = [*map(str, command), str(inputs), str(outputs), isa, str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **(env or {})})
    assert (done.returncode, done.stderr) == (0, ""), done.stderr[:8000]
    blob, at, allocations = outputs.read_bytes(), 0, 0
    close = decisions = 0

    def take(dtype, *shape):
        nonlocal at
        array = np.frombuffer(blob, dtype, int(np.prod(shape)), at).reshape(shape)
        at += array.nbytes
        return array

    for case in cases:
        y_shape, open_shape = output_shapes(case)
        status, allocated = take(np.int32, 2)
        assert status == 0
        macs = int(take(np.uint64, 1)[0])
        counts = judge(case, take(np.float32, *y_shape), take(np.uint8, *open_shape), macs)
        close, decisions, allocations = close + counts[0], decisions + counts[1], allocations + allocated
    assert at == len(blob)
    assert close <= 0.001 * decisions
    return allocations


def dimensions(case: Case):
    x, weight = case.arrays[:2]
    n, c, height, width = np.transpose(x, (0, 3, 1, 2)).shape if case.options["nhwc"] else x.shape
    return n, c, len(weight), height, width


def output_shapes(case: Case):
    n, _, o, *sides = dimensions(case)
    options = case.options
    return (n, o, *(((side - 1) // options["stride"] + 1) // options["pool"] for side in sides)), (n, o)


def encode(case: Case) -> bytes:
    """A case as replay.cpp reads it: 19 integers, then the arrays."""
    x, weight, scale, shift = case.arrays
    options = case.options
    _, *residual = options["residual"].shape if "residual" in options else (0, 0, 0, 0)
    header = [*dimensions(case), weight.shape[-1], options["stride"], options["relu"], options["pool"], len(scale)]
    header += [options["level"], options["nhwc"], *residual, options.get("residual_stride", 1)]
    header += [options.get("residual_offset", 0), "gate_weight" in options, "in_open" in options]
    optional = (options.get(name) for name in ("gate_weight", "gate_bias", "kept", "in_open", "residual"))
    arrays = [np.array(header, np.int32), x, weight, scale, shift, *(a for a in optional if a is not None)]
    return b"".join(array.tobytes() for array in arrays)
