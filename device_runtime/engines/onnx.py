"""ONNX Runtime, CPU provider."""

from ..formats.bundle import Bundle
from ..formats.manifest import Program
from ..kernels.build import find
from ..kernels.library import KernelLibrary
from .program import LoadedProgram, stock_threads


def import_runtime():
    import onnxruntime

    return onnxruntime


def load(bundle: Bundle, program: Program, threads: int) -> LoadedProgram:
    return _Onnx(bundle, program, threads)


class _Onnx(LoadedProgram):
    def __init__(self, bundle, program, threads):
        super().__init__(bundle, program)
        runtime = import_runtime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = stock_threads(bundle.manifest, program, threads)
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # errors come as exceptions; they need not be on stderr too
        # the runtime's own format may name other files, which `outside` does not look for
        options.add_session_config_entry("session.load_model_format", "ONNX")
        if program.needs_kernel:
            library = str(find("onnx"))
            self.kernel = KernelLibrary(library)
            options.add_session_config_entry("fedgate.threads", str(threads))
            options.register_custom_ops_library(library)
        self._session = runtime.InferenceSession(
            bundle.program(program), options, providers=["CPUExecutionProvider"], enable_fallback=0
        )
        # bound inputs and outputs keep feed dictionaries and their checks out of `invoke`
        self._binding = self._session.io_binding()
        for port in program.outputs:
            self._binding.bind_output(port.name)

    def invoke(self):
        self._session.run_with_iobinding(self._binding)

    def _set(self, arrays):
        self._arrays = arrays  # the binding only points at them
        for port, array in zip(self.program.inputs, arrays, strict=True):
            self._binding.bind_cpu_input(port.name, array)

    def _get(self):
        return [array.copy() for array in self._binding.copy_outputs_to_cpu()]
