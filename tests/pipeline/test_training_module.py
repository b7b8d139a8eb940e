"""A bundle's training module for ExecuTorch: exported beside the other programs, and safe to load when damaged."""

import shutil

import pytest

from fedgate.device_runtime.engines import guard
from fedgate.device_runtime.formats.bundle import write_bundle
from fedgate.device_runtime.formats.checks import parse_json
from fedgate.export import build, pipeline

PROGRAM, WEIGHTS = "executorch-train-module.pte", "executorch-train-module.ptd"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_bundle_gets_a_training_module_and_damaged_ones_give_one_line(undisturbed, tmp_path, monkeypatch):
    monkeypatch.delenv("FEDGATE_NO_GUARD", raising=False)
    plans = build.plan_programs
    monkeypatch.setattr(build, "plan_programs", lambda *args: [plan for plan in plans(*args) if plan.role == "dense"])
    bundle = pipeline.export_run(undisturbed.path, tmp_path / "digits.fedgate", ["executorch"], trainable="head")
    module = module_of(bundle)
    assert (module.file, module.weights) == (PROGRAM, WEIGHTS)
    guard.check(bundle, [module])  # export has run it
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # what is remembered of damaged ones is forgotten
    check_damaged(bundle, tmp_path / "bad.fedgate")


def module_of(bundle):
    (module,) = (program for program in bundle.manifest.programs if program.role == "train-module")
    return module


def check_damaged(bundle, path):
    """What the guard says of damaged files behind matching hashes."""
    fields = parse_json((bundle.path / "manifest.json").read_bytes(), "manifest.json")
    names = [program["file"] for program in fields["programs"]] + list(fields.pop("files"))
    whole = {name: bundle.file(name).read_bytes() for name in names}
    program, weights = whole[PROGRAM], whole[WEIGHTS]
    for change in ({WEIGHTS: b""}, {WEIGHTS: weights[:-700]}, {WEIGHTS: weights[::-1]}, {PROGRAM: program[:9000]}):
        bad = write_bundle(path, fields, whole | change)
        (reason,) = guard.failures(bad, [module_of(bad)]).values()
        assert reason.startswith("executorch ") and PROGRAM in reason and "\n" not in reason
        shutil.rmtree(path)
