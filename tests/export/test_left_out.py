"""Programs that a runtime cannot have are left out with their reason; what is wrong, and a bundle of none, is not."""

import json

import pytest

from fedgate.cli import main
from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.formats.bundle import load_bundle
from fedgate.device_runtime.verify import verify
from fedgate.export.check import MismatchError
from fedgate.export.left_out import LeftOut
from fedgate.export.pipeline import export_run

NETWORK = """
from torch import nn

def build(classes, shape):
    def unit(i, o):
        return nn.Sequential(nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU())
    return nn.Sequential(unit(shape[0], 8), unit(8, 8), nn.MaxPool2d(2, stride=1, dilation=2), unit(8, 8),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of a gated network with a dilated pooling, which TFLite has not."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "net.py").write_text(NETWORK)
    words = ["--rounds", "1", "--clients", "2", "--local-epochs", "1", "--partition", "iid", "--density", "0.5"]
    with pytest.raises(SystemExit) as ended:
        main(["train", "--model", f"{folder}/net.py:build", *words, "--quiet", "--out", str(folder / "run")])
    assert ended.value.code == 0
    return folder / "run"


def test_what_a_runtime_cannot_have_is_left_out_and_told(run, tmp_path, capsys, need_kernel):
    need_kernel()
    with pytest.raises(SystemExit) as ended:
        main(["export", str(run), "--to", "litert,onnx", "--json", "--out", str(tmp_path / "b.fedgate")])
    assert ended.value.code == 0
    told = json.loads(capsys.readouterr().out)["left_out"]
    assert [note["program"] for note in told] == ["litert-skip.tflite"] and told[0]["reason"]
    bundle = load_bundle(tmp_path / "b.fedgate")
    roles = {(program.runtime, program.role) for program in bundle.manifest.programs}
    assert roles >= {("litert", "dense"), ("litert", "masked"), ("onnx", "dense"), ("onnx", "masked"), ("onnx", "skip")}
    assert ("litert", "skip") not in roles
    assert {row["status"] for row in verify(bundle)} == {"ok"}


def test_nothing_at_all_is_an_error(run, tmp_path, monkeypatch):
    def cannot(*arguments):
        raise RuntimeError("this converter\nhas failed")

    monkeypatch.setattr("fedgate.export.programs.lower", cannot)
    with pytest.raises(FedgateError, match=r"no program could be made; .*: RuntimeError: this converter has failed"):
        export_run(run, tmp_path / "b.fedgate", ["onnx"])
    assert not (tmp_path / "b.fedgate").exists()


def test_a_program_that_is_wrong_is_never_left_out():
    notes = LeftOut(None)
    with pytest.raises(MismatchError), notes.unless_possible("a.onnx"):
        raise MismatchError("it does not compute what eager computes")
    assert notes.notes == []
