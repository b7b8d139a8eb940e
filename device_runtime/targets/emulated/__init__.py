"""An ARM CPU emulated on this machine: LiteRT programs run there without a device, and their instructions are counted.

Nothing here is a latency: caches, memory and instructions that issue together are not modelled.
"""

from pathlib import Path

from ...errors import FedgateError, UsageError, choose
from ...formats.bundle import Bundle, load_bundle
from ...selection import Selection
from ...text import say as say_line
from ..kernel import libraries_for
from ..request import Request
from ..results import parse_result
from .counts import count_programs, refuse
from .cpus import CPUS
from .emulator import own_package
from .root import open_emulator


def open_target(cpu: str, python: str) -> "EmulatedTarget":
    """The target "emulated:CPU", whose Python is that of the arm64 root, whatever `python` says.

    Raises `UsageError` for an unknown CPU.
    """
    choose("CPU", cpu, CPUS)
    return EmulatedTarget(cpu)


class EmulatedTarget:
    """Runs commands of this very fedgate on an emulated CPU."""

    def __init__(self, cpu: str):
        self._cpu = cpu

    def __enter__(self) -> "EmulatedTarget":
        return self

    def __exit__(self, kind, error, trace) -> None:
        pass

    def deploy(self, path: Path) -> dict:
        raise UsageError("nothing is deployed to an emulated CPU: its programs read the bundle where it is")

    def run(self, request: Request) -> dict:
        """Run a command there, and return the JSON document that it prints. `bench` counts, and times nothing."""
        bundle = load_bundle(request.bundle)
        options = request.options
        if request.command == "bench":
            refuse(options["runtime"], options["threads"], dict(request.given))
        emulator = open_emulator(self._cpu, say)  # makes the arm64 root where it is missing
        library = kernel(bundle)
        if request.command == "bench":
            return count_programs(emulator, bundle, Selection.of(options), options["rounds"], library)
        words = request.words({path: str(path.resolve()) for path in request.inputs()})
        if request.out is not None:
            words.append(f"--out={request.out.resolve()}")
        variables = {"FEDGATE_KERNELS": str(library.parent)} if isinstance(library, Path) else {}
        if request.command != "verify":
            say(f"emulated {self._cpu}: times are the emulator's, and memory is with its own: neither is a board's")
        with own_package() as package:
            arguments = ["-m", "fedgate", request.command, "--json", *words, "--", bundle.path.resolve()]
            done = emulator.follow(arguments, variables | {"PYTHONPATH": str(package)}, say)
        return parse_result(request.command, *done, f"emulated {self._cpu}")


def kernel(bundle: Bundle) -> Path | str | None:
    """LiteRT's library of the kernel for aarch64; the reason where it cannot be built; None where nothing needs it."""
    if not any(program.needs_kernel and program.runtime == "litert" for program in bundle.manifest.programs):
        return None
    try:
        return next(path for path in libraries_for("aarch64") if path.name == "libfedgate_litert.so")
    except FedgateError as error:
        return str(error)


def say(line: str) -> None:
    say_line(line, err=True)
