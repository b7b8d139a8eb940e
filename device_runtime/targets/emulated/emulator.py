"""Runs Python programs on an emulated ARM CPU, and counts what LiteRT executes there."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import FedgateError
from ..package import package_files
from .cpus import CPUS
from .needs import emulator_version

COUNTS = ("instructions", "vector_fma", "fma_2_lanes", "fma_scalar")  # as count.c writes them
GUEST = Path(__file__).with_name("guest.py")
# Nothing that differs from run to run reaches the guest, neither our own environment nor a temporary name: a dozen
# instructions of Python's around an inference depend on such texts.
ENVIRONMENT = {
    "LC_ALL": "C.UTF-8",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONSAFEPATH": "1",  # whatever lies where the user stands
    "PYTHONNOUSERSITE": "1",  # those packages are for the machine that we run on
    "OPENBLAS_NUM_THREADS": "1",
    "FEDGATE_NO_GUARD": "1",  # the guest is itself a process that may crash
}


@dataclass(frozen=True)
class Emulator:
    """An emulated CPU with its arm64 root; made by `root.open_emulator`."""

    cpu: str
    root: Path

    def run(self, *arguments, variables: dict[str, str] | None = None, **options) -> subprocess.CompletedProcess:
        """Run the guest's Python with these arguments; returns the finished process, with texts.

        variables: more environment variables of the guest; PYTHONPATH there comes before the wheels. options: as in
        subprocess.run.
        """
        return subprocess.run(**self._process(arguments, variables or {}), capture_output=True, **options)

    def follow(self, arguments: Sequence, variables: dict[str, str], say: Callable[[str], None]):
        """The same, while it runs: `say` gets each line of its stderr but what `fedgate` says of its end.

        Returns (exit status, stdout, last line of stderr).
        """
        last = ""
        with tempfile.TemporaryFile("w+") as output:
            process = self._process(arguments, variables)
            with subprocess.Popen(**process, stdout=output, stderr=subprocess.PIPE) as child:
                for line in child.stderr:
                    last = line.rstrip("\n")
                    if last and not last.startswith("fedgate: "):
                        say(last)
            output.seek(0)
            return child.returncode, output.read(), last

    def _process(self, arguments: Sequence, variables: dict[str, str]) -> dict:
        """What starts the guest's Python, as keywords of subprocess.Popen."""
        environment = ENVIRONMENT | {"FEDGATE_QEMU": shutil.which("qemu-aarch64")} | variables
        paths = (environment.get("PYTHONPATH"), str(self.root / "wheels"))
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        command = [str(self.root / self.cpu / "python3.11"), *map(str, arguments)]
        return {"args": command, "env": environment, "encoding": "utf-8", "errors": "replace"}

    def facts(self) -> dict:
        """What is emulated, by what, and which LiteRT runs there; flat JSON."""
        wheel = next(iter((self.root / "wheels").glob("ai_edge_litert-*.dist-info")), None)
        return {
            "cpu": f"{self.cpu} ({CPUS[self.cpu].board}), emulated",
            "emulator": f"qemu-aarch64 {emulator_version()}",
            "litert": wheel and f"ai-edge-litert {wheel.stem.partition('-')[2]}",
        }

    def count(self, program: Path, inputs: dict[str, np.ndarray], delegate: Path | None = None):
        """Run a LiteRT program with one thread, and count what each inference executes.

        inputs: by the signature's names, args_0, args_1, ..., each with a leading dimension over the inferences.
        delegate: a library for the program, built for aarch64. Returns the counts, int64 (inferences, 4) in the order
        of `COUNTS`, and the outputs by name, output_0, ..., with the same leading dimension; beside them
        executed_macs, int64 (inferences,), where the delegate counts them. Raises `FedgateError` when it fails.
        """
        with tempfile.TemporaryDirectory(prefix="fedgate-") as name:
            folder = Path(name)
            (folder / "program.tflite").symlink_to(program.resolve())
            np.savez(folder / "inputs.npz", **inputs)
            plugin = str(self.root / "count.so").replace(",", ",,")  # as qemu wants it among its own commas
            arguments = [GUEST, "program.tflite", "inputs.npz", "outputs.npz"]
            arguments += [] if delegate is None else ["--delegate", delegate.resolve()]
            done = self.run(*arguments, variables={"QEMU_PLUGIN": f"file={plugin},out=counts"}, cwd=folder)
            if done.returncode != 0:
                raise FedgateError(f"{program.name} failed on the emulated {self.cpu}: {last_line(done.stderr)}")
            found = np.loadtxt(folder / "counts", dtype=np.int64, ndmin=2)
            return found, dict(np.load(folder / "outputs.npz"))


@contextmanager
def own_package() -> Iterator[Path]:
    """A folder with fedgate's own files, for the guest's PYTHONPATH."""
    with tempfile.TemporaryDirectory(prefix="fedgate-") as name:
        for target, source in package_files().items():
            place = Path(name, target)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, place)
        yield Path(name)


def last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else "it was killed"
