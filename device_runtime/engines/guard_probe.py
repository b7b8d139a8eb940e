"""Loads programs of one runtime and runs them, each in a fork of this process; prints {file: reason or ""} as JSON.

python -m fedgate.device_runtime.engines.guard_probe BUNDLE SECONDS FILE...
"""

import contextlib
import gc
import json
import os
import resource
import signal
import sys
from pathlib import Path

import numpy as np

from ..child import how_it_ended
from ..errors import FedgateError
from ..formats.bundle import Bundle, load_bundle
from ..formats.manifest import Program
from . import import_runtime, load_program

LONGEST_REASON = 2000  # fits into a pipe that nobody reads yet


def main(path: str, seconds: int, *files: str) -> dict[str, str]:
    """The reasons by file. The runtime is imported once, before the forks."""
    bundle = load_bundle(Path(path))
    programs = [program for program in bundle.manifest.programs if program.file in files]
    image = bundle.reference().image[:1]
    import_runtime(programs[0].runtime)
    gc.freeze()  # what is here now is no garbage, and the forks need not copy it to find that out
    return {program.file: in_a_fork(bundle, program, image, seconds) for program in programs}


def in_a_fork(bundle: Bundle, program: Program, image: np.ndarray, seconds: int) -> str:
    """Try a program in a process that it may crash; why it failed, or ""."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, b"=" + attempt(bundle, program, image, seconds).encode()[:LONGEST_REASON])
        finally:
            os._exit(0)  # nothing of the parent's is flushed or cleaned up a second time
    os.close(write)
    with open(read, "rb") as pipe:
        said = pipe.read().decode("utf-8", "replace")
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if said:
        return said[1:]
    if status == -signal.SIGALRM:
        return f"{program.runtime} did not finish {program.file} within {seconds} s"
    return (
        f"{program.runtime} crashes on {program.file} ({how_it_ended(status)}): "
        "it is damaged, or made for another version"
    )


def attempt(bundle: Bundle, program: Program, image: np.ndarray, seconds: int) -> str:
    """Load and run a program, at every level that it has; why it is refused, or ""."""
    signal.alarm(seconds)  # ends the process, also where it hangs outside Python
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # where memory runs out, this process is the one to go
        Path("/proc/self/oom_score_adj").write_text("1000")
    try:
        loaded = load_program(bundle, program)
        for level in range(len(bundle.manifest.densities)) if program.takes_level else [program.level]:
            loaded.call(some_inputs(program, image, level))
        del loaded
        gc.collect()  # memory that was written over is often noticed only when it is freed
    except FedgateError as error:
        return str(error)
    return ""


def some_inputs(program: Program, image: np.ndarray, level: int | None) -> dict[str, np.ndarray]:
    """Something for each input of a program of any role: an image, a level, and else zeros."""
    zeros = {port.name: np.zeros(port.shape, port.dtype) for port in program.inputs}
    return zeros | {"image": image, "level": np.array([level or 0], np.int32)}


if __name__ == "__main__":
    report = os.dup(1)
    os.dup2(2, 1)  # runtimes may print
    reasons = main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
    with open(report, "w") as out:
        json.dump(reasons, out)
