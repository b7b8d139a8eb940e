"""What `pip install fedgate[litert]` takes of a Raspberry Pi: bytes installed, and memory while ResNet-32 runs.

Measured in the arm64 root that `fedgate bench --target emulated:cortex-a72` makes: Debian 12's Python with what
fedgate's own requirements bring, in the versions of constraints.txt, and no torch.

    installed_mb      files of a distribution, as `pip install --no-compile` leaves them
    bytecode_mb       what pip adds without that option: the bytecode of all modules, also of those that nobody imports;
                      fedgate's own is not counted
    peak_rss_mb       peak resident memory of a fresh process that loads a program and runs an image, or executes a
                      whole command, as the kernel tells it (VmHWM): the emulator's own memory is in it
    least_rss_mb      the same without what is the emulator's at the end, which only grows: a Raspberry Pi's is between

MB are 10^6 bytes. The network is an untrained, calibrated ResNet-32 at 32x32 with density 0.5.

    python benchmarks/footprint.py --json footprint.json
"""

import importlib.metadata
import itertools
import json
import os
import tempfile
from pathlib import Path

import click
import torch
from calibrate import calibrated, most_opened, synthetic_images
from common import REPOSITORY
from PIL import Image
from result_file import json_option, write_result
from rich.console import Console

from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.formats.bundle import Bundle
from fedgate.device_runtime.targets.emulated import kernel
from fedgate.device_runtime.targets.emulated.emulator import Emulator, last_line, own_package
from fedgate.device_runtime.targets.emulated.root import open_emulator
from fedgate.export.build import build_bundle
from fedgate.export.pipeline import pack_salience
from fedgate.train.network.build import build_network
from fedgate.train.network.salience import SalienceCollector

STAGES = ("fedgate", "device_runtime", "train", "export")  # all that a wheel of fedgate holds
SHAPE, DENSITY, CLASSES = (3, 32, 32), 0.5, 10
# /proc/self/maps is the guest's own, as qemu tells it; every other file there is the kernel's, of the whole process
PROBE = """
import contextlib, io, json, re, sys
from pathlib import Path
from fedgate.device_runtime.bench import load_probe
from fedgate.device_runtime.board.machine import peak_rss_mb
def run(kind, *words):
    if kind == "program":
        return load_probe.main(words[0], words[1], 0, 1)
    from fedgate.cli import cli
    with contextlib.redirect_stdout(io.StringIO()):
        cli.main(list(words), standalone_mode=False)
kept = run(*sys.argv[1:])
ranges = [line.split()[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines()]
ranges = [(int(start, 16), int(end, 16)) for start, end in ranges]
guest = total = 0
for line in Path("/proc/self/smaps").read_text().splitlines():
    place = re.match("([0-9a-f]+)-([0-9a-f]+) ", line)
    if place:
        inside = any(start <= int(place[1], 16) < end for start, end in ranges)
    elif line.startswith("Rss:"):
        total += int(line.split()[1])
        guest += int(line.split()[1]) * inside
print(json.dumps({"peak": peak_rss_mb(), "emulator": (total - guest) * 1024 / 1e6}))
"""


def make_bundle(path: Path) -> Bundle:
    """A bundle of a calibrated ResNet-32 with LiteRT's four programs."""
    images = synthetic_images(SHAPE, 256)
    torch.manual_seed(0)
    network = calibrated(build_network("resnet32", "paper", (DENSITY,), CLASSES, SHAPE), images).eval()
    torch.manual_seed(0)
    dense = calibrated(build_network("resnet32", "none", (1.0,), CLASSES, SHAPE), images).eval()
    kept = {0: most_opened(network, images)}
    collector = SalienceCollector(network)
    with torch.no_grad():
        network(images)
    collector.add()
    fields = {
        "model": "resnet32",
        "gate": "paper",
        "width": 1.0,
        "dataset": "synthetic",
        "labels": [str(number) for number in range(CLASSES)],
        "input": {"shape": [1, *SHAPE], "layout": "NCHW", "mean": [0.5] * 3, "std": [0.25] * 3},
        "densities": [DENSITY],
        "default_level": 0,
        "training": {},
        "masks": "global",
        "layers": [layer.to_json() for layer in network.layers],
    }
    salience = pack_salience({"global": collector.record()})
    console = Console(stderr=True, quiet=True)
    return build_bundle(network, dense, kept, images[:16].numpy(), ["litert"], path, fields, salience, False, console)


def installed(root: Path) -> list[dict]:
    """A row for each distribution of the route, the largest first, and one for all."""
    files = {}
    for found in importlib.metadata.distributions(path=[str(root / "wheels")]):
        files[f"{found.name} {found.version}"] = [Path(found.locate_file(file)) for file in found.files]
    own = (path for folder in STAGES for path in (REPOSITORY / folder).rglob("*"))
    files["fedgate"] = [path for path in own if path.suffix != ".pyc"]
    rows = [size_row(name, paths) for name, paths in files.items()]
    rows.sort(key=lambda row: -row["installed_mb"])
    return [*rows, size_row("all", itertools.chain(*files.values()))]


def size_row(name, paths) -> dict:
    sizes = {".pyc": 0, "": 0}
    for path in paths:
        if path.is_file():
            sizes[".pyc" if path.suffix == ".pyc" else ""] += path.stat().st_size
    return {"kind": "installed", "name": name, "installed_mb": sizes[""] / 1e6, "bytecode_mb": sizes[".pyc"] / 1e6}


def memory(emulator: Emulator, bundle: Bundle, kind: str, name: str, *words) -> dict:
    """The row of a program or of a command."""
    library = kernel(bundle)
    if not isinstance(library, Path):
        raise click.ClickException(f"no kernel for aarch64: {library}")
    with own_package() as package:
        variables = {"PYTHONPATH": str(package), "FEDGATE_KERNELS": str(library.parent)}
        done = emulator.run("-c", PROBE, kind, *words, variables=variables)
    if done.returncode != 0:
        raise click.ClickException(f"{name} failed: {last_line(done.stderr)}")
    found = json.loads(done.stdout.splitlines()[-1])
    return {
        "kind": kind,
        "name": name,
        "peak_rss_mb": found["peak"],
        "least_rss_mb": found["peak"] - found["emulator"],
    }


@click.command()
@click.option("--quick", is_flag=True, help="The dense and the skip program alone.")
@json_option
def main(quick, json_path):
    """Measure installed size and memory of the LiteRT route on an emulated Cortex-A72."""
    torch.set_num_threads(1)
    os.environ.setdefault("PIP_CONSTRAINT", str(REPOSITORY / "constraints.txt"))
    try:
        emulator = open_emulator("cortex-a72", print)
        with tempfile.TemporaryDirectory() as name:
            rows = measure(emulator, Path(name), quick)
    except FedgateError as error:
        raise click.ClickException(str(error)) from error
    write_result(json_path, rows)


def measure(emulator, folder, quick):
    """All rows; each is printed as it comes."""
    rows = installed(emulator.root)
    for row in rows:
        print(f"installed  {row['name']:28}{row['installed_mb']:8.1f} MB, bytecode {row['bytecode_mb']:.1f} MB")
    bundle = make_bundle(folder / "resnet32.fedgate")
    Image.new("RGB", (32, 32)).save(folder / "grey.png")
    jobs = [
        ("program", p.role, bundle.path, p.file)
        for p in bundle.manifest.programs
        if not quick or p.role in ("dense", "skip")
    ]
    jobs += [] if quick else [("command", "verify", "verify", bundle.path, "--runtime", "litert")]
    jobs += [] if quick else [("command", "predict", "predict", bundle.path, folder / "grey.png")]
    for job in jobs:
        rows.append(memory(emulator, bundle, *job))
        row = rows[-1]
        print(f"{row['kind']:11}{row['name']:28}{row['least_rss_mb']:8.1f} to {row['peak_rss_mb']:.1f} MB", flush=True)
    return rows


if __name__ == "__main__":
    main()
