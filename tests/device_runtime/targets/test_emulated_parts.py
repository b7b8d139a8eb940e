"""The parts of an emulated target, none of which needs the arm64 root: the plugin, what is missing, what is refused."""

import re
import subprocess
import tomllib
from pathlib import Path

import numpy as np
import pytest
from emulation import emulated

from fedgate.device_runtime.errors import FedgateError, UsageError
from fedgate.device_runtime.targets import open_target
from fedgate.device_runtime.targets.emulated import counts, needs, root
from fedgate.device_runtime.targets.emulated.cpus import cpuinfo

# Straight-line code between two getppid() calls: 15 instructions, the last system call included.
REGION = """
int main(void)
{
    __asm__ volatile("mov x8, #173\\n svc #0\\n"
                     "fmla v0.4s, v1.4s, v2.4s\\n fmls v0.4s, v1.4s, v2.4s\\n"
                     "fmla v0.4s, v1.4s, v2.s[3]\\n fmls v31.4s, v30.4s, v29.s[0]\\n"
                     "fmla v0.2s, v1.2s, v2.2s\\n fmls v0.2s, v1.2s, v2.s[1]\\n fmla v0.2d, v1.2d, v2.d[1]\\n"
                     "fmla s0, s1, v2.s[2]\\n fmadd s0, s1, s2, s3\\n fnmsub d0, d1, d2, d3\\n"
                     "fmul v0.4s, v1.4s, v2.4s\\n fmul v0.4s, v1.4s, v2.s[1]\\n fadd v0.4s, v1.4s, v2.4s\\n"
                     "mov x8, #173\\n svc #0\\n"
                     ::: "x0", "x8", "v0", "v31", "memory");
    return 0;
}
"""


@emulated
def test_the_plugin_counts_instructions_and_fmas_by_lanes(tmp_path):
    (tmp_path / "region.c").write_text(REGION)
    region, plugin, found = tmp_path / "region", tmp_path / "count.so", tmp_path / "counts"
    subprocess.run(["aarch64-linux-gnu-gcc", "-static", "-o", region, tmp_path / "region.c"], check=True)
    root.compile_plugin(plugin)
    subprocess.run(["qemu-aarch64", "-cpu", "cortex-a72", "-plugin", f"file={plugin},out={found}", region], check=True)
    assert found.read_text().split() == ["15", "4", "3", "3"]


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """A function that writes a tool for a PATH which has nothing else: its name and the lines of a shell script."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def write(name, script):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)

    return write


def test_what_is_missing_is_told_in_one_line_with_its_packages(tools):
    with pytest.raises(FedgateError, match=r"needs qemu-aarch64: install with: apt install qemu-user$"):
        needs.check_emulator()
    with pytest.raises(FedgateError, match=r"needs mmdebstrap, cc.*: install with: apt install mmdebstrap gcc"):
        needs.check_builder()


def test_a_qemu_that_cannot_count_is_refused(tools):
    tools("qemu-aarch64", 'case $1 in --version) echo "qemu-aarch64 version 9.2.1 (Debian)";; *) echo -plugin;; esac')
    with pytest.raises(FedgateError, match=r"version 9.2.1; counting needs 7 or 8"):
        needs.check_emulator()
    tools("qemu-aarch64", 'echo "qemu-aarch64 version 7.2.22"')  # a static build: no -plugin among its options
    with pytest.raises(FedgateError, match="takes no plugins"):
        needs.check_emulator()


def test_the_root_gets_what_pip_installs_with_the_extra_litert():
    project = tomllib.loads(Path(__file__).parents[3].joinpath("pyproject.toml").read_text())["project"]
    assert sorted(root.requirements()) == sorted(
        [*project["dependencies"], *project["optional-dependencies"]["litert"]]
    )
    assert not any(re.search("torch|executorch", line) for line in root.requirements())


def test_a_root_that_cannot_be_made_leaves_nothing_behind(tools, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(needs, "KEYRING", tmp_path)
    tools("cc", "exit 1")
    tools("mmdebstrap", 'echo "I: starting"; echo "E: no such mirror"; echo "I: cleaning up"; exit 1')
    with pytest.raises(FedgateError, match=r"cannot make the arm64 root: mmdebstrap failed: E: no such mirror$"):
        root.make_root()
    (left,) = (tmp_path / "cache" / "fedgate").iterdir()
    abandoned = left.with_name(f"{left.name[1:].removesuffix('.lock')}-x.part")
    abandoned.mkdir()
    with pytest.raises(FedgateError, match="mmdebstrap failed"):
        root.make_root()
    assert re.fullmatch(r"\.arm64-[0-9a-f]{12}\.lock", left.name) and list(left.parent.iterdir()) == [left]


def test_what_a_count_cannot_do_is_refused_before_anything_is_made():
    with pytest.raises(UsageError, match="unknown CPU 'cortex-a53'; known: cortex-a72, cortex-a76"):
        open_target("emulated:cortex-a53")
    for runtime, threads, given, words in (
        ("onnx", 1, {}, "--runtime litert"),
        (None, 2, {}, "--threads 1"),
        (None, 1, {"--rounds": 2, "--seconds": 3.0}, "--seconds does not go with"),
    ):
        with pytest.raises(UsageError, match=words):
            counts.refuse(runtime, threads, given)
    counts.refuse("litert", 1, {"--rounds": 2})
    with pytest.raises(UsageError, match="nothing is deployed"):
        open_target("emulated:cortex-a72").deploy(Path("x.fedgate"))


def test_cpuinfo_is_that_of_a_board_with_four_cores():
    text = cpuinfo("cortex-a76")
    assert text.count("processor\t: ") == 4 and "CPU part\t: 0xd0b\n" in text and "asimddp" in text
    assert text.endswith("Model\t\t: Raspberry Pi 5 Model B Rev 1.0\n")


def test_inputs_are_those_of_the_signature_in_the_manifests_order(bundle):
    masked = next(p for p in bundle.manifest.programs if (p.runtime, p.role) == ("litert", "masked"))
    images = np.arange(2 * 3 * 8 * 8, dtype=np.float32).reshape(2, 3, 8, 8)
    made = counts.program_inputs(masked, images, 1)
    assert made["args_0"].shape == (2, 1, 8, 8, 3) and made["args_0"][1, 0, 2, 5, 1] == images[1, 1, 2, 5]
    assert made["args_1"].tolist() == [[1], [1]] and made["args_1"].dtype == np.int32


def test_outputs_that_are_not_the_references_are_refused(bundle):
    dense = next(p for p in bundle.manifest.programs if (p.runtime, p.role) == ("litert", "dense"))
    masked = next(p for p in bundle.manifest.programs if (p.runtime, p.role) == ("litert", "masked"))
    reference = bundle.reference()
    indices = np.array([1, 0])
    logits = reference.logits("dense", None)[indices]
    counts.compare(bundle.manifest, dense, 0, reference, indices, logits, None)
    with pytest.raises(FedgateError, match=rf"{dense.file}: input 1: logits differ by"):
        counts.compare(bundle.manifest, dense, 0, reference, indices, logits[::-1], None)
    masks = reference.open(0)[indices]
    logits = reference.logits("masked", 0)[indices]
    counts.compare(bundle.manifest, masked, 0, reference, indices, logits, masks)
    with pytest.raises(FedgateError, match=r"should be|may have"):
        counts.compare(bundle.manifest, masked, 0, reference, indices, logits, 1 - masks)
