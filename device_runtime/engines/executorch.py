"""ExecuTorch, through the Python runtime of its wheel (which needs torch)."""

import functools
import weakref

from ..bundle import Bundle
from ..errors import FedgateError
from ..kernels.build import find
from ..kernels.library import KernelLibrary
from ..manifest import Program
from .program import LoadedProgram

_live = weakref.WeakSet()


def import_runtime():
    from executorch.extension.pybindings import portable_lib  # noqa: F401 - else its import would count as loading
    from executorch.runtime import Runtime

    return Runtime


def load(bundle: Bundle, program: Program, threads: int) -> LoadedProgram:
    _set_threads(threads)
    return _ExecuTorch(bundle, program)


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
        # The method is only valid while its program lives.
        self._loaded = import_runtime().get().load_program(str(bundle.file(program.file)))
        self._method = self._loaded.load_method("forward")
        _live.add(self)

    def invoke(self):
        self._results = self._method.execute(self._inputs)

    def _set(self, arrays):
        import torch

        self._inputs = [torch.from_numpy(array.copy()) for array in arrays]

    def _get(self):
        # results may lie in memory that the next run overwrites
        return [result.numpy().copy() for result in self._results]
