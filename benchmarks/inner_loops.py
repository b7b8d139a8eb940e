"""What the kernel's inner loops cost on the cores of Raspberry Pis, by llvm-mca's model of their pipelines.

The loops are found in the cross-built library as it ships: every innermost loop with at least LEAST vector
multiply-adds, alike ones once. Those of the file for plain vectors are among them (its widest tile, of 216, spills),
which does not run where there is NEON; the tile that does most of the work there has 4 channels x 5 vectors x 9 taps =
180. llvm-mca (LLVM 19's; 14's takes every core for one) knows the Cortex-A72 of a Raspberry Pi 4, and the Neoverse N1
stands for the Cortex-A76 of a Raspberry Pi 5, whose core it shares. It assumes that every load hits the L1 cache: a
lower bound of cycles, not a latency. of_peak compares with independent multiply-adds alone in the same model.

    python benchmarks/inner_loops.py --json inner_loops.json
"""

import re
import shutil
import subprocess
from pathlib import Path

import click
from result_file import json_option, write_result

from fedgate.device_runtime.kernels.build import build

REPOSITORY = Path(__file__).resolve().parents[1]
CORES = {"cortex-a72": "cortex-a72", "cortex-a76": "neoverse-n1"}  # our name -> llvm-mca's
LEAST = 8
LANES = 4
ROUNDS = 200
LINE = re.compile(r"\s+([0-9a-f]+):\s+(\S+)\s*([^<\n]*?)\s*(?:<.*)?(?://.*)?")
BRANCH = re.compile(r"b\.\w+|cbn?z|tbn?z")


def find_tool(name):
    """The path of an LLVM or binutils program."""
    path = shutil.which(f"{name}-19") or shutil.which(name)
    if path is None:
        raise click.ClickException(f"{name} is missing: install Debian's packages llvm-19 and g++-aarch64-linux-gnu")
    return path


def disassemble(library):
    """The instructions of a library: lists of (address, mnemonic, operands), one list a function."""
    listing = subprocess.run(
        [find_tool("aarch64-linux-gnu-objdump"), "-d", "--no-show-raw-insn", library],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    functions = []
    for line in listing.splitlines():
        if line.endswith(">:"):
            functions.append([])
        elif match := LINE.fullmatch(line):
            functions[-1].append((int(match[1], 16), match[2], match[3]))
    return functions


def inner_loops(function):
    """The innermost loops of a function, each a list of (mnemonic, operands) that ends with its branch back."""
    index = {address: i for i, (address, *_) in enumerate(function)}
    back = []
    for i, (_, mnemonic, operands) in enumerate(function):
        if BRANCH.fullmatch(mnemonic):
            target = index.get(int(operands.split(",")[-1].strip(), 16))
            if target is not None and target <= i:
                back.append((target, i))
    for start, end in back:
        if not any(start <= other[0] and other[1] < end for other in back if other != (start, end)):
            yield [(mnemonic, operands) for _, mnemonic, operands in function[start : end + 1]]


def is_multiply_add(instruction):
    return instruction[0] == "fmla" and ".4s" in instruction[1]


def cycles(instructions, core):
    """Cycles an iteration of a loop takes on a core."""
    lines = ["loop:"]
    for mnemonic, operands in instructions:
        if BRANCH.fullmatch(mnemonic):
            operands = ", ".join([*operands.split(",")[:-1], "loop"])
        lines.append(f"{mnemonic} {operands}")
    command = [find_tool("llvm-mca"), "-mtriple=aarch64", f"-mcpu={core}", f"-iterations={ROUNDS}"]
    done = subprocess.run(command, input="\n".join(lines) + "\n", capture_output=True, text=True)
    found = re.search(r"Total Cycles:\s+(\d+)", done.stdout)
    if found is None:
        raise click.ClickException(f"llvm-mca failed: {done.stderr.strip()[:500]}")
    return int(found[1]) / ROUNDS


def measure(loop, core):
    """One row: a loop on a core."""
    adds = sum(map(is_multiply_add, loop))
    taken = cycles(loop, CORES[core])
    peak = 24 / cycles([("fmla", f"v{i}.4s, v30.4s, v31.s[0]") for i in range(24)], CORES[core])
    return {
        "cpu": core,
        "model": CORES[core],
        "vector_fma": adds,
        "instructions": len(loop),
        "cycles": taken,
        "macs_per_cycle": LANES * adds / taken,
        "of_peak": adds / taken / peak,
    }


@click.command()
@click.option("--quick", is_flag=True, help="The Cortex-A72 alone.")
@json_option
def main(quick, json_path):
    """Cycles of the kernel's inner loops on ARM cores."""
    library = build("aarch64-linux-gnu", folder=REPOSITORY / "build" / "arm")["kernels"]
    loops = [loop for function in disassemble(library) for loop in inner_loops(function)]
    loops = [loop for loop in loops if sum(map(is_multiply_add, loop)) >= LEAST]
    if not loops:
        raise click.ClickException(f"{library} has no loop of {LEAST} vector multiply-adds or more")
    loops.sort(key=lambda loop: -sum(map(is_multiply_add, loop)))
    rows = []
    for core in list(CORES)[: 1 if quick else None]:
        alike = [measure(loop, core) for loop in loops]
        rows += [row for i, row in enumerate(alike) if row not in alike[:i]]
    print(f"{'cpu':12}{'FMA':>5}{'instructions':>14}{'cycles':>9}{'MACs / cycle':>14}{'of peak':>9}")
    for row in rows:
        print(
            f"{row['cpu']:12}{row['vector_fma']:5}{row['instructions']:14}{row['cycles']:9.1f}"
            f"{row['macs_per_cycle']:14.2f}{row['of_peak']:9.2f}"
        )
    write_result(json_path, rows)


if __name__ == "__main__":
    main()
