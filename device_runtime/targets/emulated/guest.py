"""Runs a LiteRT program inside the arm64 root, one thread, and marks each inference for the plugin `count.c`.

    python3.11 guest.py PROGRAM.tflite INPUTS.npz OUTPUTS.npz [--delegate LIBRARY.so]

INPUTS.npz holds the signature's inputs args_0, args_1, ... and OUTPUTS.npz gets its outputs output_0, ..., each with
a leading dimension over the inferences. Each inference stands between two getppid() calls. A delegate that exports
`uint64_t fedgate_macs(void)` and `void fedgate_reset_macs(void)` also gives executed_macs, int64 (inferences,).
"""

import argparse
import ctypes
import os

import numpy as np


class MacCounter:
    """The MACs that a delegate's library says it executed; None where it does not count."""

    def __init__(self, library):
        self.library = None if library is None else ctypes.CDLL(library)  # the one that the delegate came from
        if not hasattr(self.library, "fedgate_macs") or not hasattr(self.library, "fedgate_reset_macs"):
            self.library = None
            return
        self.library.fedgate_macs.restype = ctypes.c_uint64
        self.library.fedgate_reset_macs.restype = None

    def reset(self):
        if self.library is not None:
            self.library.fedgate_reset_macs()

    def read(self):
        return None if self.library is None else self.library.fedgate_macs()


def load(program, delegate):
    """An interpreter, and the indices of its program's inputs and outputs by name."""
    from ai_edge_litert.interpreter import Interpreter, load_delegate

    delegates = [load_delegate(delegate)] if delegate else None
    interpreter = Interpreter(program, num_threads=1, experimental_delegates=delegates)
    interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner()  # gone on return: one that lives on would forbid `invoke`
    details = runner.get_input_details(), runner.get_output_details()
    return interpreter, *({name: detail["index"] for name, detail in of.items()} for of in details)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("inputs")
    parser.add_argument("outputs")
    parser.add_argument("--delegate")
    arguments = parser.parse_args()
    interpreter, places, results = load(arguments.program, arguments.delegate)
    counter = MacCounter(arguments.delegate)

    inputs = dict(np.load(arguments.inputs))
    found = {name: [] for name in results}
    macs = []
    for step in range(-2, len(inputs["args_0"])):  # two warm up
        for name, place in places.items():
            interpreter.set_tensor(place, inputs[name][max(step, 0)])
        if step < 0:
            interpreter.invoke()
            continue
        counter.reset()
        os.getppid()
        interpreter.invoke()
        os.getppid()
        macs.append(counter.read())
        for name, place in results.items():
            found[name].append(interpreter.get_tensor(place))
    if macs[0] is not None:
        found["executed_macs"] = np.array(macs, np.int64)
    np.savez(arguments.outputs, **{name: np.stack(values) for name, values in found.items()})


if __name__ == "__main__":
    main()
