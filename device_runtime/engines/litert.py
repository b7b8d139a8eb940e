"""LiteRT, also known as TensorFlow Lite: the `ai_edge_litert` package, or the older `tflite_runtime`."""

from ..errors import FedgateError
from ..formats.bundle import Bundle
from ..formats.manifest import Program
from ..kernels.build import find
from ..kernels.library import KernelLibrary
from .program import LoadedProgram, private_file, stock_threads


def import_runtime():
    """The interpreter module of whichever package is installed."""
    try:
        from ai_edge_litert import interpreter
    except ModuleNotFoundError:
        from tflite_runtime import interpreter
    return interpreter


def load(bundle: Bundle, program: Program, threads: int) -> LoadedProgram:
    return _LiteRT(bundle, program, threads)


class _LiteRT(LoadedProgram):
    def __init__(self, bundle, program, threads):
        super().__init__(bundle, program)
        delegates = []
        if program.needs_kernel:
            library = str(find("litert"))
            self.kernel = KernelLibrary(library)
            delegates = [import_runtime().load_delegate(library, {"threads": str(threads)})]
        with private_file(bundle.program(program)) as path:
            self._interpreter = import_runtime().Interpreter(
                model_path=path,
                num_threads=stock_threads(bundle.manifest, program, threads),
                experimental_delegates=delegates,
            )
        self._interpreter.allocate_tensors()
        # The converter names a signature's inputs args_0, args_1, ... and its outputs output_0, ...; the order of the
        # tensors in the file is its own.
        runner = self._interpreter.get_signature_runner()
        inputs, outputs = runner.get_input_details(), runner.get_output_details()
        if len(inputs) != len(program.inputs) or len(outputs) != len(program.outputs):
            raise FedgateError(f"{program.file} does not have the inputs and outputs that its manifest lists")
        self._inputs = [inputs[f"args_{i}"]["index"] for i in range(len(inputs))]
        self._outputs = [outputs[f"output_{i}"]["index"] for i in range(len(outputs))]

    def invoke(self):
        self._interpreter.invoke()

    def _set(self, arrays):
        for index, array in zip(self._inputs, arrays, strict=True):
            self._interpreter.set_tensor(index, array)

    def _get(self):
        return [self._interpreter.get_tensor(index) for index in self._outputs]
