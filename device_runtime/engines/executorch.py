"""ExecuTorch, through the Python runtime of its wheel (which needs torch)."""

import functools
import weakref

import numpy as np

from ..errors import FedgateError
from ..formats.bundle import Bundle
from ..formats.manifest import Program
from ..kernels.build import find
from ..kernels.library import KernelLibrary
from .program import LoadedProgram, private_file

_live = weakref.WeakSet()


def import_runtime():
    from executorch.extension.pybindings import portable_lib  # noqa: F401 - else its import would count as loading
    from executorch.runtime import Runtime

    return Runtime


def load(bundle: Bundle, program: Program, threads: int) -> LoadedProgram:
    _set_threads(threads)
    loaded = (TrainingModule if program.role == "train-module" else _ExecuTorch)(bundle, program)
    _live.add(loaded)
    return loaded


@functools.cache
def _kernel() -> KernelLibrary:
    """Register the kernel's operators, which loading the library does, once: the runtime refuses a second time."""
    import_runtime()
    return KernelLibrary(find("executorch"))


def _set_threads(threads: int) -> None:
    """Size the process's one thread pool; loaded programs point at it, so it cannot change under them."""
    from executorch.extension.pybindings import portable_lib

    if portable_lib._threadpool_get_thread_count() == threads:
        return
    if len(_live) > 0:
        raise FedgateError("ExecuTorch programs with another number of threads are loaded in this process")
    portable_lib._unsafe_reset_threadpool(threads)


class _ExecuTorch(LoadedProgram):
    def __init__(self, bundle, program):
        super().__init__(bundle, program)
        self.kernel = _kernel() if program.needs_kernel else None
        self._open(bundle)

    def _open(self, bundle):
        # The method is only valid while its program lives.
        with private_file(bundle.program(self.program)) as path:
            self._loaded = import_runtime().get().load_program(path)
        self._method = self._loaded.load_method("forward")

    def invoke(self):
        self._results = self._method.execute(self._inputs)

    def _set(self, arrays):
        import torch

        self._inputs = [torch.from_numpy(array.copy()) for array in arrays]

    def _get(self):
        # results may lie in memory that the next run overwrites
        return [result.numpy().copy() for result in self._results]


class TrainingModule(_ExecuTorch):
    """A program of role `train-module`: it holds the parameters, and each run is a step that moves them.

    The step's momenta are outputs, and inputs of the next one; at first they are zeros. This is what Android's
    `org.pytorch.executorch.training.TrainingModule` and `SGD` do with the same two files.
    """

    def _open(self, bundle):
        from executorch.extension.pybindings.portable_lib import _load_for_executorch
        from executorch.extension.training import TrainingModule

        program, weights = bundle.program(self.program), bundle.read(self.program.weights)
        with private_file(program) as program_path, private_file(weights) as weights_path:
            self._module = TrainingModule(_load_for_executorch(program_path, weights_path))
        self._sgd = None

    def get_outputs(self) -> dict[str, np.ndarray]:
        """What the step tells, and, as a program of role `train` does, the parameters that it left."""
        parameters = {name: tensor.numpy().copy() for name, tensor in self._module.named_parameters().items()}
        return super().get_outputs() | parameters

    def invoke(self):
        from executorch.extension.training import get_sgd_optimizer

        self._results = self._module.forward_backward("forward", self._inputs)
        if self._sgd is None:  # it takes the parameters, which are known after the first run
            self._sgd = get_sgd_optimizer(self._module.named_parameters(), 1.0)
        self._sgd.step(self._module.named_gradients())  # whole steps, see `ports`
