"""What answers for an image, whatever runs it: one program, a trunk with a tail behind it, another machine."""

from typing import NamedTuple, Protocol

import numpy as np

from ..errors import UsageError
from ..formats.manifest import Manifest, Program
from .program import LoadedProgram, runtime_errors
from .program_macs import stock_macs


class Prediction(NamedTuple):
    """What a network says of one image.

    logits: float32 (1, classes), or what else its last layer gives. open: masks, uint8 (1, sum of C_out), or None
    where it has none. macs: the multiply-adds that were computed for it. program, level: whose answer it is.
    """

    logits: np.ndarray
    open: np.ndarray | None
    macs: float
    program: Program
    level: int | None


class Model(Protocol):
    """A network that runs one image at a time.

    `run` is all that most callers need. A benchmark calls `prepare` once and then times `invoke` alone: layouts are
    converted and checks made in `prepare`. program: which rows and reasons name.
    """

    program: object

    def run(self, image: np.ndarray, level: int | None = None) -> Prediction:
        """One normalised image, float32 (1, C, H, W), at `level` (an index into the manifest's densities).

        What does not change with the level ignores it. Raises `UsageError` for an image or level that does not fit,
        `FedgateError` when the runtime fails.
        """

    def prepare(self, image: np.ndarray, level: int | None = None) -> None:
        """Set the inputs of the next `invoke`; same arguments and errors as `run`."""

    def invoke(self) -> None:
        """Run on what was prepared; nothing else, so that it can be timed."""


class ProgramModel:
    """One program of a role that takes images, as a `Model`."""

    def __init__(self, loaded: LoadedProgram, manifest: Manifest):
        self.program, self.invoke = loaded.program, loaded.invoke
        self._loaded, self._shape, self._levels = loaded, manifest.shape, len(manifest.densities)
        self._stock = stock_macs(manifest, loaded.program)

    def run(self, image: np.ndarray, level: int | None = None) -> Prediction:
        with runtime_errors(f"{self.program.runtime} failed to run {self.program.file}"):
            self.prepare(image, level)
            found, counted = self._loaded.counted()
        first, *masks = found.values()
        level = level if self.program.level is None else self.program.level
        return Prediction(first, masks[0] if masks else None, counted + self._stock, self.program, level)

    def prepare(self, image: np.ndarray, level: int | None = None) -> None:
        program = self.program
        if image.shape != self._shape or image.dtype != np.float32:
            raise UsageError(f"{program.file} takes float32 {list(self._shape)}, not {image.dtype} {list(image.shape)}")
        if program.takes_level and (level is None or not 0 <= level < self._levels):
            raise UsageError(f"{program.file} takes a level from 0 to {self._levels - 1}, not {level}")
        if program.level is not None and level not in (None, program.level):
            raise UsageError(f"{program.file} is a {program.role} program and cannot run level {level}")
        self._loaded.set_inputs({"image": image, "level": np.array([level or 0], np.int32)})
