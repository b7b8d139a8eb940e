"""What the benchmark scripts share: programs that belong to no bundle, kept below build/ once lowered, and timed in
turn against the dense one, here or in a process of their own.
"""

import contextlib
import hashlib
import importlib.metadata
import multiprocessing
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from fedgate.device_runtime.bench.latency import interleave
from fedgate.device_runtime.bench.stats import paired_ratio
from fedgate.device_runtime.board.machine import OtherLoad, machine_info
from fedgate.device_runtime.engines import Prediction, open_program
from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.formats.bundle import Bundle, listing
from fedgate.device_runtime.formats.macs import mask_width
from fedgate.device_runtime.formats.manifest import Program
from fedgate.device_runtime.formats.ports import Port
from fedgate.device_runtime.verify import TOLERANCE
from fedgate.export.lowering import LOWERINGS, lower

REPOSITORY = Path(__file__).resolve().parents[1]
# What a lowered program depends on beside its network.
CONVERTERS = ("torch", "executorch", "litert-torch", "litert-converter", "onnxscript", "torchao", "ai-edge-quantizer")
SOURCES = ("export", "train")


def machine():
    """The facts of this machine that a table should carry."""
    return {key: value for key, value in machine_info().items() if value is not None}


# Programs without a bundle.


def program_entry(place, runtime, role, network, level=None, kernel_layers=()):
    """The `Program` of a file that is there; network: the gated or plain network that it comes from."""
    layout, (c, h, w) = LOWERINGS[runtime][1], network.shape
    inputs = (Port("image", (1, c, h, w) if layout == "NCHW" else (1, h, w, c), "float32", layout),)
    outputs = (Port("logits", (1, network.layers[-1].out_channels), "float32", None),)
    if role in ("masked", "skip"):
        inputs += (Port("level", (1,), "int32", None),)
        outputs += (Port("open", (1, mask_width(network.layers)), "uint8", None),)
    facts = listing(place.read_bytes())
    return Program(
        place.name,
        runtime,
        role,
        "fp32",
        TOLERANCE,
        level,
        inputs,
        outputs,
        role == "skip",
        tuple(kernel_layers),
        **facts,
    )


def bundle_of(folder, network):
    """What stands in for a bundle when programs of a gated network are loaded."""
    facts = {"shape": (1, *network.shape), "densities": network.densities, "layers": network.layers}
    return Bundle(Path(folder), SimpleNamespace(**facts))


def load(folder, name, eval_network, runtime, network):
    """Lower an image -> logits network and load it as a program that belongs to no bundle."""
    place = Path(folder, f"{name}.{LOWERINGS[runtime][0]}")
    place.write_bytes(lower(eval_network, runtime, network.shape, has_level=False))
    return open_program(bundle_of(folder, network), program_entry(place, runtime, "dense", network))


def lowered_digest(body, *facts):
    """A hash of all that a lowered program depends on: graph, weights, converters, our own sources, and the facts."""
    digest = hashlib.sha256(repr((facts, body.code, repr(body))).encode())
    for name in CONVERTERS:
        try:
            digest.update(f"{name} {importlib.metadata.version(name)}\0".encode())
        except importlib.metadata.PackageNotFoundError:
            digest.update(f"{name} is missing\0".encode())
    for path in sorted(path for folder in SOURCES for path in (REPOSITORY / folder).glob("*.py")):
        digest.update(f"{path.relative_to(REPOSITORY)}\0".encode() + path.read_bytes() + b"\0")
    for name, value in body.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\0".encode() + value.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def keep(path, make, fresh=False):
    """The file at `path`, made of the bytes of `make()` where it is missing, or `fresh`."""
    if fresh or not path.is_file():
        content = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(content)
        os.replace(file.name, path)  # moved into place whole: never over the bytes of a file that is mapped
    return path


# Timing.


def summary(times, dense):
    """p50_ms and p90_ms, and ratio_to_dense with its 95 % interval (None without a baseline), of each program.

    times: (programs, rounds, runs) by `interleave`; dense: the index of the baseline among the programs, or None.
    """
    by_round = np.median(times, axis=2)
    found = []
    for i in range(len(times)):
        ratio = (None,) * 3 if dense is None else paired_ratio(by_round[i], by_round[dense])
        found.append(
            {
                "p50_ms": float(np.percentile(times[i], 50)),
                "p90_ms": float(np.percentile(times[i], 90)),
                **dict(zip(("ratio_to_dense", "ratio_low", "ratio_high"), ratio, strict=True)),
            }
        )
    return found


def measure(networks, runtime, network, seconds, inputs=None):
    """Time image -> logits networks as programs of a runtime, interleaved, one thread, batch 1.

    networks: name -> eval network; one is "dense". network: the gated network they come from. Returns for each name
    p50_ms, p90_ms, and ratio_to_dense with its 95 % interval.
    """
    if inputs is None:
        inputs = np.random.default_rng(0).normal(size=(8, *network.shape)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        programs = [load(folder, f"p{i}", body, runtime, network) for i, body in enumerate(networks.values())]
        for program in programs:  # warm up
            for image in inputs:
                program.run(image[None])
        times = interleave([(program, None) for program in programs], inputs, None, seconds)
    return dict(zip(networks, summary(times, list(networks).index("dense")), strict=True))


@dataclass
class Played:
    """What a program returned in another process, as a `Model` of those images: image by image, level by level.

    logits: (levels, n, classes); open: uint8 (levels, n, sum of C_out), or None; macs: (levels, n). A program that
    takes no level has one.
    """

    program: Program
    images: np.ndarray
    logits: np.ndarray
    open: np.ndarray | None
    macs: np.ndarray

    def run(self, image, level=None):
        """As of any `Model`, for an image and a level that were run."""
        index = np.flatnonzero((self.images == image).all((1, 2, 3)))[:1]
        row = level if self.program.takes_level else 0
        opened = None if self.open is None else self.open[row, index]
        return Prediction(self.logits[row, index], opened, float(self.macs[row, index][0]), self.program, level)


class TimingProcess:
    """A fresh process in which programs are loaded and run, and, once the caller has judged what they return, timed.

    A runtime's threads are set once in a process (ExecuTorch's pool is the process's own), and nothing that lowered
    the programs is left in its memory. Use as a context.
    """

    def __init__(self, bundle, programs, images, threads):
        """programs: `Program`s in the folder of `bundle`; images: float32 (n, C, H, W)."""
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._programs, self._images = programs, images
        self._process = context.Process(target=_serve, args=(theirs, bundle, programs, images, threads), daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._pipe.close()
        self._process.join(10)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join()

    def outputs(self):
        """Run every program on every image, at every level: a `Played`, or a `FedgateError`, for each program."""
        return [
            found if isinstance(found, FedgateError) else Played(program, self._images, *found)
            for program, found in zip(self._programs, self._receive(), strict=True)
        ]

    def times(self, chosen, seconds):
        """Time programs in turn; chosen: pairs (index of a program, level or None).

        Returns (times as by `interleave`, number of cores that other processes kept busy).
        """
        with contextlib.suppress(BrokenPipeError):  # `_receive` tells how the process ended
            self._pipe.send((chosen, seconds))
        return self._receive()

    def _receive(self):
        try:
            found = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            raise FedgateError(f"the process that runs the programs ended with {self._process.exitcode}") from None
        if isinstance(found, Exception):
            raise found
        return found


def _serve(pipe, bundle, programs, images, threads):
    loaded = []
    try:
        found = []
        for program in programs:
            try:
                loaded.append(open_program(bundle, program, threads))
                found.append(_run_all(loaded[-1], images, len(bundle.manifest.densities)))
            except FedgateError as error:
                loaded[len(found) :] = [None]
                found.append(error)
        pipe.send(found)
        chosen, seconds = pipe.recv()
        others = OtherLoad()
        times = interleave([(loaded[i], level) for i, level in chosen], images, None, seconds)
        pipe.send((times, others.cores()))
    except (EOFError, BrokenPipeError):
        return  # the caller is gone, or wants no times
    except Exception as error:
        pipe.send(FedgateError(f"{type(error).__name__}: {error}"))


def _run_all(loaded, images, levels):
    """(logits, open, macs) as in `Played`."""
    program = loaded.program
    chosen = range(levels) if program.takes_level else [program.level]
    runs = [[loaded.run(image[None], level) for image in images] for level in chosen]
    opened = np.array([[found.open[0] for found in row] for row in runs]) if program.takes_level else None
    logits = np.array([[found.logits[0] for found in row] for row in runs])
    return logits, opened, np.array([[found.macs for found in row] for row in runs])
