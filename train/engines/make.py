"""Which engine trains and evaluates the clients of a run (`loop`, `cohort` or `flower`), and a run with its engine."""

import functools

from ..ingredients import check_data, make_network, make_teacher, start_weights
from ..server.rounds import Run
from ..server.run_directory import RunDirectory, RunInfo
from .cohort import CohortEngine
from .loop import LoopEngine


def make_engine(info: RunInfo, data, parts, workers, tensors=None, superlink=None) -> LoopEngine:
    """The engine that trains and evaluates a run's network; "auto" is the cohort where there is a GPU to fill.

    tensors: what the networks hold of the frozen layers, which no download brings. superlink: where the clients of a
    run with the engine "flower" are; without it the run's clients are simulated here.
    """
    check_data(info, data)
    build = functools.partial(make_network, info, info.resolved["device"], tensors)
    auto = "cohort" if info.resolved["device"] == "cuda" and info.config.algorithm != "scaffold" else "loop"
    engine = auto if info.config.engine == "auto" else info.config.engine
    if superlink is not None:
        from .flower.engine import FlowerEngine  # imports Flower

        return FlowerEngine(build, data, parts, info.resolved["precision"], workers, info, superlink, tensors)
    kind = CohortEngine if engine == "cohort" else LoopEngine
    teacher = info.config.teacher and functools.partial(make_teacher, info, info.resolved["device"])
    return kind(build, data, parts, info.resolved["precision"], workers, teacher)


def open_run(directory: RunDirectory, data, parts, workers=1, superlink=None):
    """A run at its newest checkpoint or at its start, with the engine that it asks for. superlink: of `make_engine`."""
    info = directory.info

    def engine(frozen):
        return make_engine(info, data, parts, workers, frozen, superlink)

    return Run(directory, data, parts, make_network(info), lambda: start_weights(info).tensors, engine)
