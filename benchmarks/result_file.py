"""The JSON file that a benchmark writes: a list of flat rows, each with its command, machine and versions.

    [{"density": 0.25, ..., "command": "python benchmarks/levels.py --data PATH/TO/cifar10 --rounds 20",
      "machine": "AMD EPYC, 2 cores, x86_64, AVX2, Linux", "versions": "CPython 3.11.7, torch 2.13.0+cpu, ..."}, ...]

Nothing tells when it was measured, or names a folder of the machine: files in benchmarks/results/ are compared and
kept. The tables of README and docs/ are made of them (readme.py).
"""

import importlib.metadata
import json
import shlex
import sys
from pathlib import Path

import click

from fedgate.device_runtime.board.machine import machine_info

RESULTS = Path(__file__).with_name("results")
PACKAGES = ("torch", "executorch", "ai-edge-litert", "tflite-runtime", "onnxruntime", "flwr", "numpy")

json_option = click.option(
    "--json", "json_path", type=click.Path(dir_okay=False), help="Write the rows here, as a list."
)


def write_result(path, rows):
    """Write the rows of the command that runs now; nothing where `path` is None. rows: flat dicts."""
    if path is None:
        return
    facts = {"command": typed(sys.argv), "machine": machine_facts(), "versions": versions()}
    lines = [json.dumps(row | facts) for row in rows]
    Path(path).write_text("[\n" + ",\n".join(lines) + "\n]\n")


def read_result(path):
    """The rows of a file that `write_result` wrote."""
    return json.loads(Path(path).read_text())


def typed(words):
    """The command of `words` (sys.argv) as a user would type it in the repository's root, without --json."""
    script, *options = words
    kept, skip = [], False
    for word in options:
        if not (skip or word == "--json" or word.startswith("--json=")):
            kept.append(nameless(word))
        skip = word == "--json"
    place = Path(script).parent if Path(script).name == "__main__.py" else Path(script)  # a folder runs that file
    return shlex.join(["python", f"benchmarks/{place.name}", *kept])


def nameless(word):
    """A word of a command, where it is an absolute path with what stands before its last part left out."""
    option, equals, value = word.rpartition("=")
    return f"{option}{equals}PATH/TO/{Path(value).name}" if Path(value).is_absolute() else word


def machine_facts():
    """What a figure may depend on, with the widest vectors that PyTorch uses here."""
    import torch  # not at the top: readers of results need none

    info = machine_info()
    vectors = torch.backends.cpu.get_cpu_capability()
    return f"{info['cpu']}, {info['cores']} cores, {info['architecture']}, {vectors}, {info['system'].split()[0]}"


def versions():
    """Python and the packages that compute, those that are installed."""
    found = [machine_info()["python"]]
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(found)
