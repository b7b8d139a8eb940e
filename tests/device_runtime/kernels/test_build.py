"""Building the kernel: where libraries are kept and looked for, and what is said when there is no compiler."""

import json
import os
import subprocess
import sys

import pytest

from fedgate.device_runtime.errors import FedgateError, UsageError
from fedgate.device_runtime.kernels import build
from fedgate.device_runtime.kernels.library import KernelLibrary


def test_without_a_compiler_the_reason_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("FEDGATE_KERNELS", raising=False)
    reason = build.ensure()
    assert "CMake" in reason and "C++20" in reason and "\n" not in reason
    with pytest.raises(FedgateError, match=r"aarch64-linux-gnu-g\+\+ is not installed"):
        build.build("aarch64-linux-gnu")
    assert build.find("kernels") is None


def test_an_unknown_target_lists_the_known():
    with pytest.raises(UsageError, match="known: host, aarch64-linux-gnu"):
        build.build("riscv64")


def test_libraries_are_found_by_the_digest_of_their_sources(need_kernel, monkeypatch):
    need_kernel()
    monkeypatch.delenv("FEDGATE_KERNELS", raising=False)
    path = build.find("kernels")
    assert build.source_digest() in str(path)
    monkeypatch.setattr(build, "source_digest", lambda: "0" * 12)
    assert build.find("kernels") is None


def test_a_folder_in_the_environment_comes_first(need_kernel, monkeypatch, tmp_path):
    need_kernel()
    (tmp_path / build.file_name("kernels")).write_bytes(build.find("kernels").read_bytes())
    monkeypatch.setenv("FEDGATE_KERNELS", str(tmp_path))
    assert build.find("kernels").parent == tmp_path
    assert "generic" in KernelLibrary(build.find("kernels")).isas


def test_the_command_line(need_kernel):
    need_kernel()
    command = [sys.executable, "-m", "fedgate", "kernels", "info", "--json"]
    facts = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert set(facts["libraries"]) == set(build.KINDS) and facts["instruction_sets"][-1] == "generic"
    command = [sys.executable, "-m", "fedgate", "kernels", "build", "--target", "vax"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "known: host" in done.stderr
