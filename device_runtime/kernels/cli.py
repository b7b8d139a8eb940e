"""`fedgate kernels`: build the channel-skipping kernel, and tell what is there."""

import json

import click

from ..text import say


@click.group()
def kernels():
    """Build the channel-skipping kernel that `skip` programs need, and show what is built.

    \b
    Example:
      fedgate kernels build
      fedgate kernels info
    """


@kernels.command(short_help="Build the kernel, for this machine or for a Raspberry Pi.")
@click.option("--target", default="host", show_default=True, metavar="NAME", help="host or aarch64-linux-gnu.")
@click.option("--out", type=click.Path(), metavar="DIR", help="Put the libraries here instead of the user's cache.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def build(target, out, as_json):
    """Build the kernel with CMake and a C++20 compiler; without one, programs of role `masked` run everywhere.

    A library built elsewhere is found when FEDGATE_KERNELS names its folder.

    \b
    Example:
      fedgate kernels build
      fedgate kernels build --target aarch64-linux-gnu --out pi
    """
    from pathlib import Path

    from .build import build as build_kernel

    built = build_kernel(target, folder=Path(out) if out else None)
    if as_json:
        click.echo(json.dumps({kind: str(path) for kind, path in built.items()}, indent=1))
        return
    for kind, path in built.items():
        say(f"{kind}: {path}")


@kernels.command(short_help="Show what is built, and for which instruction sets.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def info(as_json):
    """Show which libraries of the kernel are built, and the instruction sets that they use here.

    \b
    Example:
      fedgate kernels info
    """
    from .build import KINDS, TARGETS, cache_folder, find, source_digest, why_not_buildable
    from .library import KernelLibrary

    found = {kind: find(kind) for kind in KINDS}
    library = found["kernels"]
    facts = {
        "sources": source_digest(),
        "cache": str(cache_folder()),
        "libraries": {kind: None if path is None else str(path) for kind, path in found.items()},
        "instruction_sets": KernelLibrary(library).isas if library else [],
        "can_build": {target: why_not_buildable(target) or "yes" for target in TARGETS},
    }
    if as_json:
        click.echo(json.dumps(facts, indent=1))
        return
    say(f"sources {facts['sources']}, kept in {facts['cache']}")
    for kind, path in facts["libraries"].items():
        say(f"{kind}: {path or 'not built'}")
    if library:
        say(f"instruction sets here, best first: {', '.join(facts['instruction_sets'])}")
    for target, answer in facts["can_build"].items():
        say(f"build for {target}: {answer}")
