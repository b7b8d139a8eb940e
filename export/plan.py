"""One program of a bundle: what it takes and returns, how it is made for a runtime, and how it is judged."""

from collections.abc import Callable
from dataclasses import dataclass

from fedgate.device_runtime.formats.bundle import Bundle
from fedgate.device_runtime.formats.manifest import Program
from fedgate.device_runtime.formats.ports import Port
from fedgate.device_runtime.verify import TOLERANCE

from .check import Comparison
from .lowering import LOWERINGS


@dataclass(frozen=True)
class Plan:
    """A program to make.

    inputs, outputs: of `ports.role_ports`, images in the layout NCHW. lower: runtime -> the files of the program, its
    own first, bytes by suffix. compare: (a bundle with the program, its entry there) -> how it compares with eager
    PyTorch; raises `MismatchError`. level: of `static` alone. kernel_layers: those that the kernel computes.
    """

    role: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    lower: Callable[[str], dict[str, bytes]]
    compare: Callable[[Bundle, Program], Comparison]
    level: int | None = None
    kernel_layers: tuple[str, ...] = ()
    runtimes: tuple[str, ...] = tuple(LOWERINGS)
    precision: str = "fp32"
    tolerance: float = TOLERANCE

    @property
    def stem(self):
        """The name of its files but for runtime and suffix."""
        if self.role == "trunk":  # a bundle may have two
            return "trunk-skip" if self.kernel_layers else "trunk"
        parts = (self.role, None if self.precision == "fp32" else self.precision, self.level)
        return "-".join(str(part) for part in parts if part is not None)

    def entry(self, runtime):
        """The manifest's entry, without its hash."""
        suffix, layout, *_ = LOWERINGS[runtime]
        return {
            "file": f"{runtime}-{self.stem}.{suffix}",
            "runtime": runtime,
            "role": self.role,
            "precision": self.precision,
            "tolerance": self.tolerance,
            "level": self.level,
            "inputs": [port_json(port, layout) for port in self.inputs],
            "outputs": [port_json(port, layout) for port in self.outputs],
            "needs_kernel": bool(self.kernel_layers),
            "kernel_layers": list(self.kernel_layers),
        }

    def make(self, runtime):
        """(the manifest's entry, files by name)."""
        return self.entry(runtime), {f"{runtime}-{self.stem}.{end}": data for end, data in self.lower(runtime).items()}


def port_json(port, layout):
    """A port as a manifest has it; an image in the runtime's layout."""
    shape = list(port.shape)
    if port.name != "image":
        return {"name": port.name, "shape": shape, "dtype": port.dtype, "layout": None}
    n, c, h, w = shape
    return {
        "name": "image",
        "shape": shape if layout == "NCHW" else [n, h, w, c],
        "dtype": port.dtype,
        "layout": layout,
    }
