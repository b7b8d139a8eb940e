"""A user's own network in a file of its own, through the command line: trained, exported to all runtimes, verified."""

import json

import pytest
from click.testing import CliRunner

from fedgate.cli import cli, main
from fedgate.device_runtime.formats.bundle import load_bundle
from fedgate.export.programs import SKIP_RUNTIMES

OWN = """
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self, classes, channels):
        super().__init__()
        self.stem = nn.Conv2d(channels, 8, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(8)
        self.one = nn.Conv2d(8, 12, 3, padding=1)
        self.one_norm = nn.BatchNorm2d(12)
        self.two = nn.Conv2d(12, 8, 3, padding=1, bias=False)
        self.two_norm = nn.BatchNorm2d(8)
        self.three = nn.Conv2d(8, 16, 3, stride=2)
        self.head = nn.Linear(16 * 9, classes)

    def forward(self, x):
        x = F.relu(self.stem_norm(self.stem(x)))
        x = F.relu(x + self.two_norm(self.two(F.relu(self.one_norm(self.one(x))))))
        return self.head(F.relu(self.three(x)).flatten(1))


def build(classes, shape):
    return Net(classes, shape[0])
"""

# what is put between a stem of 8 channels and the mean: (definitions, forward, what the refusal must name)
REFUSED = {
    "activation": ("self.soft = nn.GELU()", "self.soft(x)", "cannot gate layer 'soft': a GELU is not a"),
    "group norm": ("self.groups = nn.GroupNorm(2, 8)", "self.groups(x)", "cannot gate layer 'groups': a GroupNorm"),
    "depthwise": ("self.deep = nn.Conv2d(8, 8, 3, groups=8)", "self.deep(x)", "layer 'deep': Conv2d with groups=8"),
    "transposed": ("self.up = nn.ConvTranspose2d(8, 8, 2)", "self.up(x)", "layer 'up': a ConvTranspose2d is not a"),
    "shared": ("self.same = nn.Conv2d(8, 8, 1)", "self.same(self.same(x))", "layer 'same': it is used more than once"),
    "dynamic": ("pass", "x if x.sum() > 0 else -x", "cannot gate Net: its forward cannot be traced"),
    "function": ("pass", "torch.sigmoid(x)", "cannot gate around the function 'sigmoid'"),
    "multiplied": ("pass", "x * 2", "cannot gate around the function 'mul'"),
    "norm first": ("self.norm = nn.BatchNorm2d(8)", "self.norm(F.relu(x))", "layer 'norm': a norm must follow a conv"),
    "reflection": (
        "self.wrap = nn.Conv2d(8, 8, 3, padding=1, padding_mode='reflect')", "self.wrap(x)",
        "layer 'wrap': Conv2d pads with 'reflect'",
    ),
    "nothing to gate": ("pass", "x", "Net has no convolution to gate"),
}  # fmt: skip

TEMPLATE = """
import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self, classes, channels):
        super().__init__()
        self.stem = nn.Conv2d(channels, 8, 3, padding=1)
        {definition}
        self.head = nn.Linear(8, classes)

    def forward(self, x):
        x = F.relu(self.stem(x))
        x = {forward}
        return self.head(x.mean((2, 3)))


def build(classes, shape):
    return Net(classes, shape[0])
"""


def fedgate(*arguments):
    """Run a command in this process; returns what it printed."""
    result = CliRunner().invoke(cli, list(map(str, arguments)), catch_exceptions=False, standalone_mode=False)
    return result.stdout


def refusal(capsys, *arguments):
    """The status and the one line on stderr with which a command ends."""
    with pytest.raises(SystemExit) as done:
        main(list(map(str, arguments)))
    return done.value.code, capsys.readouterr().err


@pytest.mark.parametrize("densities", ["0.5", "0.3,1.0"])
def test_from_a_file_to_a_verified_bundle(densities, tmp_path, need_kernel):
    need_kernel()
    file, run, out = tmp_path / "net.py", tmp_path / "run", tmp_path / "own.fedgate"
    file.write_text(OWN)
    training = ("--rounds", 2, "--clients", 2, "--local-epochs", 1, "--density", densities, "--quiet")
    fedgate("train", "--model", f"{file}:build", *training, "--out", run)
    runtimes = "executorch,litert,onnx" if densities == "0.5" else "onnx"
    fedgate("export", run, "--to", runtimes, "--out", out, "--json")
    bundle = load_bundle(out)
    layers = {layer.name: layer for layer in bundle.manifest.layers}
    assert {name for name, layer in layers.items() if layer.gate} == {"one", "two", "three"}
    assert (layers["two"].input_gate, layers["three"].input_gate, layers["head"].input_gate) == ("one", None, "three")
    rows = json.loads(fedgate("verify", out, "--json"))["programs"]
    assert {row["status"] for row in rows} == {"ok"}
    expected = {(runtime, role) for runtime in runtimes.split(",") for role in ("dense", "masked", "static")}
    expected |= {(runtime, "skip") for runtime in set(runtimes.split(",")) & set(SKIP_RUNTIMES)}
    assert {(row["runtime"], row["role"]) for row in rows} == expected
    left = {program.role: program.kernel_layers for program in bundle.manifest.programs if program.role == "skip"}
    assert all(names == ("stem", "one", "two") for names in left.values())  # the third convolution has no padding
    assert all(row["max_error"] <= 1e-4 for row in rows)


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_gated_is_refused_by_name(what, tmp_path, capsys):
    definition, forward, reason = REFUSED[what]
    file = tmp_path / "net.py"
    file.write_text(TEMPLATE.format(definition=definition, forward=forward))
    status, text = refusal(
        capsys, "train", "--model", f"{file}:build", "--density", "0.5", "--quiet", "--out", tmp_path / "run"
    )
    assert status == 2 and text.count("\n") == 1
    assert text.startswith("fedgate: ") and reason in text


def test_a_network_for_other_images_is_refused(tmp_path, capsys):
    file = tmp_path / "net.py"
    file.write_text(OWN.replace("16 * 9", "16 * 49"))
    status, text = refusal(capsys, "train", "--model", f"{file}:build", "--quiet", "--out", tmp_path / "run")
    assert status == 2 and "does not fit images of 1x8x8" in text


@pytest.mark.parametrize(
    "model,reason",
    [
        ("none.py:build", "none.py is no Python file"),
        ("net.py:make", "has no function 'make'"),
        ("net.py:text", "not a"),
    ],
)
def test_a_model_that_is_not_there_is_refused(model, reason, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text("def text(classes, shape):\n    return 'a network'\n")
    status, text = refusal(capsys, "train", "--model", model, "--quiet", "--out", "run")
    assert status == 2 and reason in text and text.count("\n") == 1
