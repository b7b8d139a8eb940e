"""A bundle's trunk and a tail with parameters of its own, run one behind the other as one program."""

import numpy as np

from ..engines import LoadedProgram, Model, Prediction, load_program, open_program
from ..engines.guard import check
from ..engines.program_macs import stock_macs
from ..errors import FedgateError, UsageError
from ..formats.bundle import Bundle
from ..formats.manifest import Manifest, Program
from .personal import Personal
from .programs import INFERENCE, run_trunk, tail_programs

ROLES = {"skip": True, "masked": False}  # whether the trunk of that name needs the kernel


class TailModel:
    """A trunk and a tail, one behind the other, as a `Model`; program: the trunk's."""

    def __init__(
        self, trunk: LoadedProgram, tail: LoadedProgram, parameters: dict[str, np.ndarray], manifest: Manifest
    ):
        self.program = trunk.program
        self._trunk, self._tail, self._parameters = trunk, tail, parameters
        self._stock = stock_macs(manifest, trunk.program)

    def run(self, image: np.ndarray, level: int | None = None) -> Prediction:
        self.prepare(image, level)
        return self._predict()

    def prepare(self, image: np.ndarray, level: int | None = None) -> None:
        self._image, self._level = image, level or 0

    def invoke(self) -> None:
        """Both programs, and what lies between them: the tail takes its parameters anew each time."""
        self._predict()

    def _predict(self) -> Prediction:
        features, opened, counted = run_trunk(self._trunk, self._image, self._level)
        values = {"features": features, "level": np.array([self._level], np.int32)}
        found = self._tail.call(self._parameters | values)
        opened = np.concatenate([opened, found.get("open", np.zeros((1, 0), np.uint8))], axis=1)
        opened, computed = opened if opened.size else None, counted + self._stock
        return Prediction(found["logits"], opened, computed, self.program, self._level)


def tuned_trunks(bundle: Bundle, runtime: str | None = None, role: str | None = None) -> list[Program]:
    """The trunk programs that can run here, of every runtime (or `runtime`); the best one first.

    Raises `UsageError` for a role that a tuned model does not have.
    """
    if role not in (None, *ROLES):
        raise UsageError(f"a personal model runs as {' or '.join(ROLES)}, not {role}")
    found = [trunk for programs in tail_programs(bundle, runtime, INFERENCE) for trunk in programs["trunk"]]
    chosen = [trunk for trunk in found if role is None or trunk.needs_kernel == ROLES[role]]
    if not chosen:
        raise FedgateError(f"{bundle.path} has no {role} trunk that can run here: fedgate kernels build")
    return chosen


def open_model(bundle: Bundle, program: Program, personal: Personal | None, threads: int = 1) -> Model:
    """A program to run on images; a trunk with the tail of a personal model behind it."""
    if personal is None or program.role != "trunk":
        return open_program(bundle, program, threads)
    return open_tail(bundle, program, personal.tensors, threads)


def open_tail(bundle: Bundle, trunk: Program, parameters: dict[str, np.ndarray], threads: int = 1) -> TailModel:
    """A trunk with a tail of these parameters behind it. Raises `FedgateError` when a program does not load."""
    tail = tail_programs(bundle, trunk.runtime, INFERENCE)[0]["tail"][0]
    check(bundle, [trunk, tail])
    loaded = (load_program(bundle, program, threads) for program in (trunk, tail))
    return TailModel(*loaded, parameters, bundle.manifest)


def model_role(program: Program) -> str:
    """What `open_model` opens is called: a program's role, or, behind a trunk, how that one runs."""
    if program.role != "trunk":
        return program.role
    return "tuned skip" if program.needs_kernel else "tuned masked"


def tuned_level(personal: Personal, level: int | None, density: float | None, bundle: Bundle) -> int:
    """The level of a personal model, which was trained for one alone. Raises `UsageError` if another is asked for."""
    densities = bundle.manifest.densities
    asked = level is not None and level != personal.level
    if asked or (density is not None and abs(density - densities[personal.level]) > 1e-6):
        raise UsageError(
            f"the personal model was trained at density {densities[personal.level]:g}, level {personal.level}"
        )
    return personal.level
