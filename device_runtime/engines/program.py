"""What all runtimes share: a loaded program, its inputs and outputs in canonical form, and how refusals are told."""

import contextlib
import os
import sys
import tempfile
import warnings
from abc import ABC, abstractmethod

import numpy as np

from ..errors import FedgateError, UsageError
from ..formats import macs
from ..formats.bundle import Bundle
from ..formats.manifest import Manifest, Program
from ..kernels.library import KernelLibrary


class LoadedProgram(ABC):
    """A program of one runtime, of any role, ready to run on arrays by the names of its ports.

    Images are float32 (1, C, H, W), whatever layout the runtime has.
    """

    def __init__(self, bundle: Bundle, program: Program):
        self.program = program
        self._shape = bundle.manifest.shape
        self.kernel: KernelLibrary | None = None  # set by the runtime where the program runs on it

    @abstractmethod
    def invoke(self) -> None:
        """Run the program on the inputs that were set; nothing else, so that it can be timed."""

    def counted(self) -> tuple[dict[str, np.ndarray], int]:
        """`invoke`, then `get_outputs`, and the MACs that the kernel counted, 0 for a program that does not use it."""
        if self.kernel is not None:
            self.kernel.reset_macs()
        self.invoke()
        return self.get_outputs(), 0 if self.kernel is None else self.kernel.executed_macs()

    def call(self, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run a program of any role on arrays by the names of its ports; images float32 (1, C, H, W).

        Raises `UsageError` for arrays that do not fit, `FedgateError` when the runtime fails.
        """
        with runtime_errors(f"{self.program.runtime} failed to run {self.program.file}"):
            self.set_inputs(values)
            self.invoke()
            return self.get_outputs()

    def set_inputs(self, values: dict[str, np.ndarray]) -> None:
        """Set the inputs of the next `invoke`; same arguments and errors as `call`."""
        for port in self.program.inputs:
            shape = self._shape if port.layout == "NHWC" else port.shape
            value = values.get(port.name)
            if value is None or value.shape != shape or value.dtype != port.dtype:
                given = "nothing" if value is None else f"{value.dtype} {list(value.shape)}"
                raise UsageError(
                    f"{self.program.file} takes {port.dtype} {list(shape)} for '{port.name}', and got {given}"
                )
        arrays = [values[port.name] for port in self.program.inputs]
        if self.program.inputs[0].layout == "NHWC":
            arrays[0] = arrays[0].transpose(0, 2, 3, 1)
        self._set([np.ascontiguousarray(array) for array in arrays])

    def get_outputs(self) -> dict[str, np.ndarray]:
        """Copies of what the last `invoke` returned, by the names of the ports."""
        outputs = dict(zip((port.name for port in self.program.outputs), self._get(), strict=True))
        for port, array in zip(self.program.outputs, outputs.values(), strict=True):
            if array.shape != port.shape or array.dtype != port.dtype:
                raise FedgateError(
                    f"{self.program.file} returned {array.dtype} {list(array.shape)} for '{port.name}'; "
                    f"its manifest says {port.dtype} {list(port.shape)}"
                )
        return outputs

    @abstractmethod
    def _set(self, arrays: list[np.ndarray]) -> None:
        """Hand over the inputs, in the manifest's order."""

    @abstractmethod
    def _get(self) -> list[np.ndarray]:
        """Copies of the outputs, in the manifest's order."""


def stock_threads(manifest: Manifest, program: Program, threads: int) -> int:
    """Threads for the stock operators of a program: one where the kernel does most of the work.

    Between two calls a runtime's idle workers go on looking out for work, on the very cores that the kernel's want.
    With two threads of XNNPACK's ResNet-32 took 0.73 ms and 0.59 ms without; ResNet-18 at 224x224, whose stem is
    XNNPACK's, 16.0 ms and 13.7 ms.
    """
    work = macs.dense(manifest.layers)
    return 1 if 2 * sum(work[name] for name in program.kernel_layers) > macs.total(work) else threads


@contextlib.contextmanager
def private_file(data: bytes):
    """The path of a file that nobody else can write to or swap, for as long as a runtime needs to map it.

    Not the bytes themselves: mapped for reading alone, constants are safe from a program that would write over them,
    and such a program ends in the guard's child.
    """
    descriptor = os.memfd_create("program", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(data)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def runtime_errors(what: str):
    """Turn whatever a runtime raises into one `FedgateError` that begins with `what`; our own errors pass."""
    try:
        yield
    except FedgateError:
        raise
    except Exception as error:
        raise FedgateError(f"{what}: {' '.join(str(error).split()) or type(error).__name__}") from error


@contextlib.contextmanager
def quiet_loading(what: str):
    """`runtime_errors` while a runtime is imported or loads a program, without its chatter.

    Runtimes write banners and CPU probes straight to file descriptor 2. They are dropped, but when loading fails, the
    last line goes into the error, since there the real reason often stands.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as caught, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        terminal = os.dup(2)
        os.dup2(caught.fileno(), 2)
        try:
            # ExecuTorch writes through Python, whose stderr need not be descriptor 2
            with (
                open(caught.fileno(), "w", closefd=False) as file,
                contextlib.redirect_stderr(file),
                runtime_errors(what),
            ):
                yield
        except FedgateError as error:
            lines = _last_lines(caught)
            raise FedgateError(f"{error} ({lines})" if lines else str(error)) from error.__cause__ or error
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)


def _last_lines(file) -> str:
    sys.stderr.flush()
    file.seek(0)
    lines = file.read().decode("utf-8", "replace").strip().splitlines()
    # ExecuTorch names the operators it lacks line by line, and only counts them in its last one
    missing = [line.partition("Missing operator:")[2].split()[-1] for line in lines if "Missing operator:" in line]
    if missing:
        return f"it has no {', '.join(dict.fromkeys(missing))}"
    return lines[-1].strip() if lines else ""
