"""The app's core on Android's own ExecuTorch library: outputs, verification and benchmark as Python's."""

import hashlib
import json
import shutil
import subprocess

import numpy as np
import pytest
import torch
from ways import EVERY_WAY

from fedgate.device_runtime.engines import open_program
from fedgate.device_runtime.engines.program_macs import asked_macs, stock_macs
from fedgate.device_runtime.formats.manifest import render_manifest
from fedgate.device_runtime.formats.tensors import read_tensors
from fedgate.device_runtime.targets.results import check_result

ROLES = ("dense", "masked", "static")


@pytest.fixture
def ask(harness, tmp_path):
    """A function: a bundle and requests of adb's target, with what differs from the usual -> the app's answers."""
    files = tmp_path / "files"
    files.mkdir()

    def run(bundle, *requests, thermal=(), kernel="-"):
        shutil.copytree(bundle, files / "bundle-0", dirs_exist_ok=True)
        usual = {"version": 1, "command": "bench", "bundle": "bundle-0", "options": {}}
        lines = [json.dumps(usual | {"out": f"out-{index}"} | request) for index, request in enumerate(requests)]
        (tmp_path / "requests").write_text("\n".join(lines))
        harness.run("org.fedgate.harness.Answer", tmp_path / "requests", files, kernel, *thermal)
        found = [json.loads((files / f"out-{index}" / "result.json").read_text()) for index in range(len(requests))]
        for answer in found:
            assert answer.keys() == {"status", "message", "result"} and "\n" not in answer["message"]
        return found

    return run


def writes_into_a_constant(shape, classes):
    """An ExecuTorch program for images of a shape, whose output lies where the file has a constant."""
    from executorch.exir import schema, to_edge
    from executorch.exir._serialize._program import deserialize_pte_binary, serialize_pte_binary

    class Adds(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("row", torch.ones(1, classes))

        def forward(self, image):
            return image.flatten(1)[:, :1] + self.row

    made = torch.export.export(Adds(), (torch.zeros(shape),))
    file = deserialize_pte_binary(to_edge(made).to_executorch().buffer)
    plan = file.program.execution_plan[0]
    tensors = [value.val for value in plan.values if isinstance(value.val, schema.Tensor)]
    output = plan.values[plan.outputs[0]].val
    output.data_buffer_idx = next(tensor.data_buffer_idx for tensor in tensors if tensor.data_buffer_idx)
    output.allocation_info = None
    return bytes(serialize_pte_binary(file))


@EVERY_WAY
def test_a_program_that_writes_into_its_constants_does_not_end_the_app(ask, bundle, tmp_path):
    """Where constants are the file's own read-only pages, the first write ends the process."""
    copy = shutil.copytree(bundle.path, tmp_path / "evil.fedgate")
    fields = json.loads((copy / "manifest.json").read_text())
    entry = next(each for each in fields["programs"] if each["runtime"] == "executorch" and each["role"] == "static")
    blob = writes_into_a_constant(bundle.reference().image[:1].shape, len(bundle.manifest.labels))
    (copy / entry["file"]).write_bytes(blob)
    entry |= {"bytes": len(blob), "sha256": hashlib.sha256(blob).hexdigest()}
    (copy / "manifest.json").write_bytes(render_manifest(fields))
    (answer,) = ask(copy, {"command": "verify"})
    found = {each["file"]: each["status"] for each in answer["result"]["programs"]}
    assert found.pop(entry["file"]) != "ok"  # it computes something else
    assert "ok" in found.values()


@EVERY_WAY
def test_logits_and_masks_equal_the_python_runtimes(harness, bundle, tmp_path):
    harness.run("org.fedgate.harness.Outputs", bundle.path, tmp_path / "outputs")
    found, _ = read_tensors(tmp_path / "outputs")
    programs = [program for program in bundle.manifest.programs if program.role in ROLES]
    assert {program.role for program in programs} == set(ROLES)
    images = bundle.reference().image
    for program in programs:
        python = open_program(bundle, program)
        for level in range(len(bundle.manifest.densities)) if program.takes_level else [program.level or 0]:
            results = [python.run(image[None], level) for image in images]
            logits = np.concatenate([found.logits for found in results])
            # the same kernels, compiled for Android
            np.testing.assert_allclose(found.pop(f"{program.file}/{level}/logits"), logits, rtol=1e-5, atol=1e-5)
            if program.takes_level:
                masks = np.concatenate([found.open for found in results])
                assert np.array_equal(found.pop(f"{program.file}/{level}/open"), masks)
    assert not found


@EVERY_WAY
def test_verify(ask, bundle):
    (found,) = ask(bundle.path, {"command": "verify", "options": {"runtime": "executorch"}})
    assert (found["status"], found["message"]) == (0, "")
    result = check_result("verify", found["result"], "the phone")
    for row in result["programs"]:
        expected = "skipped" if row["role"] == "skip" else "ok"
        assert row["status"] == expected, row
        if expected == "ok":
            assert row["max_error"] < 1e-5 and row["compared"] > 0
        else:
            assert "needs the channel-skipping kernel" in row["reason"]


def test_bench_has_the_rows_of_the_python_bench(ask, bundle):
    (found,) = ask(bundle.path, {"options": {"rounds": 13, "level": 0}}, thermal=(0, 0, 2, 2, 1))
    assert (found["status"], found["message"]) == (0, "")
    result = check_result("bench", found["result"], "the phone")
    assert result["machine"]["thermal"] == "thermal status none, then moderate, then light"
    assert "the device was hot: thermal status moderate" in result["warnings"]
    manifest, images = bundle.manifest, bundle.reference().image
    rows = {row["role"]: row for row in result["rows"]}
    assert rows.keys() == {"dense", "masked", "static"}
    for program in manifest.programs:
        if program.role not in ROLES or program.level == 1:
            continue
        row, python = rows[program.role], open_program(bundle, program)
        masks = None
        if program.takes_level:
            masks = np.concatenate([python.run(image[None], 0).open for image in images])
        assert row["asked_macs"] == round(asked_macs(manifest, masks, stock_macs(manifest, program)))
        assert row["executed_macs"] == round(stock_macs(manifest, program))
        assert 0 < row["p50_ms"] <= row["p90_ms"] and row["rounds"] == 13
        assert row["ratio_low"] <= row["ratio_to_dense"] <= row["ratio_high"]
        assert row["load_ms"] > 0 and row["first_ms"] > 0 and row["peak_rss_mb"] > 10
    assert rows["dense"]["ratio_to_dense"] == 1.0 and rows["dense"]["density"] is None
    assert [entry["program"] for entry in result["skipped"]] == [p.file for p in manifest.programs if p.role == "skip"]


WRONG = [
    ({"bundle": "bundle-1"}, "is not a bundle: no such folder"),
    ({"bundle": "../x"}, "'bundle' must be the plain name"),
    ({"version": 2}, "'version' must be"),
    ({"command": "predict"}, "'command' must be one of bench, verify, finetune"),
    ({"options": []}, "the options of bench must be an object"),
    ({"options": {"role": "nothing"}}, "unknown role 'nothing'; known: dense"),
    ({"options": {"level": 7}}, "the bundle has no level 7; its levels are 0: 0.5, 1: 1.0"),
    ({"options": {"level": 0, "density": 0.5}}, "give --level or --density, not both"),
    ({"options": {"rounds": 0}}, "threads and rounds must be at least 1"),
    ({"options": {"cpus": "0-3"}}, "the app's bench has no --cpus"),
    ({"command": "verify", "options": {"runtime": "litert"}}, "has no litert program; it has: executorch dense"),
    ({"command": "finetune"}, "has no 'data'"),
    ({"command": "finetune", "options": {"data": "bundle-0", "codec": "int8"}}, "--codec fp32 alone"),
    ({"command": "finetune", "options": {"data": "bundle-0"}}, "holds no images by class"),
    ({"command": "finetune", "options": {"data": "data-1"}}, "no data at"),
]


def test_what_goes_wrong_is_one_message(ask, bundle, tmp_path):
    for (request, text), found in zip(WRONG, ask(bundle.path, *(request for request, _ in WRONG)), strict=True):
        assert found["status"] in (1, 2) and found["result"] is None and text in found["message"], (request, found)


def changed_program(bundle, folder, role, change):
    """A copy of a bundle with another program under a hash that fits."""
    shutil.copytree(bundle.path, folder)
    fields = json.loads((folder / "manifest.json").read_text())
    entry = next(entry for entry in fields["programs"] if entry["role"] == role)
    data = change((folder / entry["file"]).read_bytes())
    (folder / entry["file"]).write_bytes(data)
    entry |= {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (folder / "manifest.json").write_bytes(render_manifest(fields))
    return folder


CHANGES = {
    "no program": (lambda data: b"not a program" * 100, "it is no ExecuTorch program"),
    "empty": (lambda data: b"", "it is no ExecuTorch program"),
    "cut": (lambda data: data[: len(data) // 3], "it is cut off, or damaged"),
    "operator": (lambda data: data.replace(b"aten::", b"aten;;"), "it has no aten;;"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_programs_that_do_not_load_behind_a_fitting_hash(ask, bundle, tmp_path, name):
    change, text = CHANGES[name]
    folder = changed_program(bundle, tmp_path / "changed", "masked", change)
    (found,) = ask(folder, {"command": "verify", "options": {"runtime": "executorch"}})
    rows = {row["role"]: row for row in found["result"]["programs"]}
    assert rows["dense"]["status"] == "ok"
    assert rows["masked"]["status"] == "mismatch" and text in rows["masked"]["reason"], rows["masked"]


def test_a_skip_program_without_its_operator_is_one_message(ask, bundle, tmp_path):
    """A library that loads and registers nothing, as another build of ExecuTorch could leave it."""
    (tmp_path / "empty.c").write_text("int fedgate_nothing;\n")
    library = tmp_path / "libfedgate_ops.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, tmp_path / "empty.c"], check=True)
    (found,) = ask(bundle.path, {"command": "verify"}, kernel=library)
    (skip,) = [row for row in found["result"]["programs"] if row["role"] == "skip"]
    assert skip["status"] == "mismatch" and "it has no fedgate::gated_conv2d" in skip["reason"]


def test_skip_programs_count_the_macs_that_the_kernel_counts(ask, bundle, operator, need_kernel):
    need_kernel()
    requests = {"command": "verify", "options": {"runtime": "executorch"}}, {"options": {"rounds": 12, "role": "skip"}}
    verified, measured = ask(bundle.path, *requests, kernel=operator("x86_64"))
    assert {row["status"] for row in verified["result"]["programs"]} == {"ok"}
    row = next(row for row in measured["result"]["rows"] if row["role"] == "skip")
    (program,) = [program for program in bundle.manifest.programs if program.role == "skip"]
    python, level = open_program(bundle, program), bundle.manifest.default_level
    counts = [python.run(image[None], level).macs for image in bundle.reference().image]
    assert row["executed_macs"] == round(np.mean(counts)) > stock_macs(bundle.manifest, program)
    assert row["asked_macs"] <= row["executed_macs"]
