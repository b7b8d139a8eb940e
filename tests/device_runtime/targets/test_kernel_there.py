"""The kernel of a device that has none: cross-compiled here and brought there, or a reason in one line."""

from pathlib import Path

import pytest
from emulation import CONSTRAINTS, emulated

from fedgate.device_runtime.kernels.build import cache_folder
from fedgate.device_runtime.targets.conversation import BOOTSTRAP, Session
from fedgate.device_runtime.targets.emulated.emulator import ENVIRONMENT
from fedgate.device_runtime.targets.emulated.root import open_emulator
from fedgate.device_runtime.targets.kernel import KernelError, libraries_for
from fedgate.device_runtime.targets.remote import RemoteTarget
from fedgate.device_runtime.targets.request import Request

# A Python like that of a Pi with our requirements installed, which finds its packages whatever PYTHONPATH says.
PYTHON = """#!/bin/sh
root={root}/{cpu}
{variables}
exec qemu-aarch64 -cpu {cpu} -L "$root" -E PYTHONHOME="$root/usr" \\
    -E PYTHONPATH="$PYTHONPATH${{PYTHONPATH:+:}}{root}/wheels" -0 "$0" "$root/usr/bin/python3.11" "$@"
"""


@pytest.mark.parametrize(
    "machine, reason",
    [("aarch64", r"aarch64-linux-gnu-g\+\+ is not installed"), ("riscv64", "not built for riscv64 from here")],
)
def test_why_a_device_gets_no_kernel(monkeypatch, tmp_path, machine, reason):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(KernelError, match=reason):
        libraries_for(machine)


@pytest.fixture
def pi(tmp_path, monkeypatch):
    """A function that connects to an emulated Raspberry Pi 4 as to one that ssh reaches: the target."""
    monkeypatch.setenv("PIP_CONSTRAINT", str(CONSTRAINTS))
    emulator = open_emulator("cortex-a72")
    variables = "\n".join(f"export {name}={value}" for name, value in ENVIRONMENT.items() if name != "PYTHONSAFEPATH")
    python = tmp_path / "python"
    python.write_text(PYTHON.format(root=emulator.root, cpu=emulator.cpu, variables=variables))
    python.chmod(0o755)
    command = ["env", f"XDG_CACHE_HOME={tmp_path / 'there'}", str(python), "-c", BOOTSTRAP]
    return lambda: RemoteTarget("ssh:pi", Session(command, "pi"))


@emulated
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_an_arm_device_runs_skip_programs_by_the_kernel_that_is_cross_compiled_here(pi, digits):
    with pi() as target:
        there = target.deploy(digits)
        assert (there["machine"], there["runtimes"], there["without_skip"]) == ("aarch64", ["litert"], None)
        copies = {path.name: path.read_bytes() for path in Path(there["kernels"]).iterdir()}
        assert copies == {path.name: path.read_bytes() for path in cache_folder("aarch64-linux-gnu").glob("*.so")}
        assert "libfedgate_litert.so" in copies
        rows = {row["role"]: row for row in target.run(Request("verify", digits, {}, ()))["programs"]}
    assert {row["status"] for row in rows.values()} == {"ok"} and set(rows) == {"dense", "masked", "skip", "static"}
    assert rows["skip"]["compared"] > 0 and rows["skip"]["max_error"] < 1e-5
