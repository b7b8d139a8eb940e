"""A program is first loaded where it can do no harm: in a process of its own, and only once.

A runtime that is given a damaged program may crash instead of refusing it, and would take our process along. So a
program that nobody has run here yet is loaded and run in a child first (`guard_probe`). What passed is remembered in
the user's cache, by the program's hash, what its manifest says of it, the runtime's version and the kernel's sources:

    ~/.cache/fedgate/tried/0123456789abcdef...      an empty file

This keeps crashes away, and is no sandbox: a program that is meant to do harm can. FEDGATE_NO_GUARD=1 leaves the trial
out, for where no process can be started.
"""

import contextlib
import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ..child import how_it_ended, python_command
from ..errors import FedgateError
from ..formats.bundle import Bundle
from ..formats.manifest import Program
from ..kernels.build import source_digest
from ..storage import user_cache
from ..text import check_utf8
from . import available, why_not

SECONDS = 120  # for loading a program and running it once at every level, on the slowest board
SECONDS_TO_START = 120


def check(bundle: Bundle, programs: Sequence[Program]) -> None:
    """Raise a `FedgateError` for the first of the programs that crashes its runtime, or that it refuses."""
    for reason in failures(bundle, programs).values():
        raise FedgateError(reason)


def failures(bundle: Bundle, programs: Sequence[Program], seconds: int = SECONDS) -> dict[str, str]:
    """file -> why it must not be loaded here, of those programs that crash, hang or are refused; tries the new ones."""
    check_utf8("the bundle", bundle.path)  # no runtime opens it
    if os.environ.get("FEDGATE_NO_GUARD"):
        return {}
    found, parts = {}, dict.fromkeys(part for program in programs for part in program.parts)
    new = [p for p in parts if why_not(p) is None and not _marker(bundle, p).exists()]
    for runtime in dict.fromkeys(program.runtime for program in new):
        mine = [program for program in new if program.runtime == runtime]
        reasons = _try_out(bundle, mine, seconds)
        remember(bundle, [program for program in mine if program.file not in reasons])
        found |= reasons
    return {p.file: found[part.file] for p in programs for part in reversed(p.parts) if part.file in found}


def remember(bundle: Bundle, programs: Sequence[Program]) -> None:
    """Note that these have run here, so that they are not tried again."""
    with contextlib.suppress(OSError):  # without a cache they are
        for program in programs:
            marker = _marker(bundle, program)
            marker.parent.mkdir(parents=True, exist_ok=True)
            marker.touch()


def _marker(bundle: Bundle, program: Program) -> Path:
    facts = [program, bundle.manifest.shape, len(bundle.manifest.densities), platform.machine()]
    facts += [available()[program.runtime].version, source_digest() if program.needs_kernel else None]
    if program.weights is not None:
        facts += [bundle.manifest.files[program.weights]]
    return user_cache() / "tried" / hashlib.sha256(repr(facts).encode()).hexdigest()


def _try_out(bundle: Bundle, programs: Sequence[Program], seconds: int) -> dict[str, str]:
    """Why each of the programs, all of one runtime, failed in a child; {} where none did."""
    runtime, files = programs[0].runtime, [program.file for program in programs]
    command = [*python_command("engines.guard_probe"), str(bundle.path), str(seconds), *files]
    try:
        child = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=SECONDS_TO_START + seconds * len(files)
        )
    except OSError as error:
        raise FedgateError(
            f"cannot start a process to try {files[0]} in: {error}; FEDGATE_NO_GUARD=1 does without"
        ) from error
    except subprocess.TimeoutExpired:
        return dict.fromkeys(files, f"{runtime} does not start: nothing came within {SECONDS_TO_START} s")
    if child.returncode != 0:
        said = (child.stderr.strip().splitlines() or [""])[-1]
        ended = how_it_ended(child.returncode) + (f": {said}" if said else "")
        return dict.fromkeys(files, f"{runtime} does not start in a process of its own ({ended})")
    return {file: reason for file, reason in json.loads(child.stdout).items() if reason}
