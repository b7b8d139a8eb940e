"""The runtimes that can execute a bundle's programs. Each is imported only when one of its programs is loaded."""

import importlib
import importlib.metadata
import importlib.util
from typing import NamedTuple

from ..errors import FedgateError, choose
from ..formats.bundle import Bundle
from ..formats.manifest import RUNTIMES, Program
from ..kernels.build import find
from .model import Model, Prediction, ProgramModel
from .program import LoadedProgram, quiet_loading

__all__ = [
    "RUNTIMES",
    "LoadedProgram",
    "Model",
    "Prediction",
    "available",
    "import_runtime",
    "load_program",
    "open_program",
    "why_not",
]

# runtime -> (import name, distribution, how to install it); the first that is installed is used
_RUNTIMES = {
    "executorch": [("executorch", "executorch", "pip install 'fedgate[executorch]'")],
    "litert": [
        ("ai_edge_litert", "ai-edge-litert", "pip install 'fedgate[litert]'"),
        ("tflite_runtime", "tflite-runtime", "pip install 'fedgate[tflite-runtime]'"),
    ],
    "onnx": [("onnxruntime", "onnxruntime", "pip install 'fedgate[onnx]'")],
}


class Availability(NamedTuple):
    """Whether a runtime can be used here: `version` of its runtime, or else the `reason` and what to do."""

    version: str | None
    reason: str | None


def available() -> dict[str, Availability]:
    """What is installed, by runtime; looks, and imports nothing."""
    return {name: _look(name) for name in RUNTIMES}


def why_not(program: Program) -> str | None:
    """Why this program cannot run here, or None if it can."""
    for part in program.parts:
        if reason := _look(part.runtime).reason:
            return reason
        if part.needs_kernel and find(part.runtime) is None:
            return "needs the channel-skipping kernel, which is not built here: fedgate kernels build"
    return None


def import_runtime(runtime: str):
    """Import a runtime's runtime and return our module for it. Raises `FedgateError` if it is not installed."""
    choose("runtime", runtime, RUNTIMES)
    reason = _look(runtime).reason
    if reason:
        raise FedgateError(reason)
    module = importlib.import_module(f".{runtime}", __name__)
    with quiet_loading(f"{runtime} is installed but does not import"):
        module.import_runtime()
    return module


def load_program(bundle: Bundle, program: Program, threads: int = 1) -> LoadedProgram:
    """Load a program of a bundle, to run with `threads` threads. Raises `FedgateError` saying what is missing."""
    reason = why_not(program)
    if reason:
        raise FedgateError(f"cannot run {program.file}: {reason}")
    module = import_runtime(program.runtime)
    with quiet_loading(f"{program.runtime} refuses to load {program.file}"):
        return module.load(bundle, program, threads)


def open_program(bundle: Bundle, program: Program, threads: int = 1) -> Model:
    """`load_program`, of a role that takes images, to run them."""
    return ProgramModel(load_program(bundle, program, threads), bundle.manifest)


def _look(runtime: str) -> Availability:
    for module, distribution, _ in _RUNTIMES[runtime]:
        if importlib.util.find_spec(module) is not None:
            try:
                return Availability(f"{distribution} {importlib.metadata.version(distribution)}", None)
            except importlib.metadata.PackageNotFoundError:  # e.g. a folder that only shares the name
                continue
    return Availability(None, f"{runtime} is not installed; {_RUNTIMES[runtime][0][2]}")
