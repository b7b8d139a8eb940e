"""A user's own network in several files: what it imports, what of Python it leaves alone, and files that changed."""

import sys
import types

import pytest

from fedgate.device_runtime.errors import FedgateError, UsageError
from fedgate.train.network.build import build_network
from fedgate.train.network.own_code import check_code, own_code

NET = """
from torch import nn
from blocks import unit
from layers.head import head

def build(classes, shape):
    import late
    return nn.Sequential(unit(shape[0], WIDTH), *head(WIDTH, classes, late.BIAS))
"""
BLOCKS = "from torch import nn\ndef unit(i, o): return nn.Sequential(nn.Conv2d(i, o, 3), nn.ReLU())\n"
HEAD = """
from torch import nn
def head(i, o, bias): return nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(i, o, bias)
"""


def write(folder, width):
    (folder / "layers").mkdir(parents=True)
    (folder / "net.py").write_text(NET.replace("WIDTH", str(width)))
    (folder / "blocks.py").write_text(BLOCKS)
    (folder / "late.py").write_text("BIAS = False\n")
    (folder / "layers" / "__init__.py").write_text("")
    (folder / "layers" / "head.py").write_text(HEAD)
    return f"{folder / 'net.py'}:build"


def built(model):
    return build_network(model, "none", (1.0,), 4, (3, 8, 8))


def test_modules_beside_the_file(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "blocks", types.ModuleType("blocks"))  # somebody else's
    sys.modules["blocks"].__file__ = str(tmp_path / "elsewhere" / "blocks.py")
    before, path = dict(sys.modules), list(sys.path)
    network = built(write(tmp_path / "own", 5))
    assert sorted(network.code) == ["blocks.py", "late.py", "layers/__init__.py", "layers/head.py", "net.py"]
    assert sys.path == path and sys.modules["blocks"] is before["blocks"]
    assert not {"late", "layers", "layers.head", "fedgate_own_model"} & sys.modules.keys()
    assert not list(tmp_path.rglob("__pycache__"))


def test_two_runs_have_their_own_modules(tmp_path):
    one, two = write(tmp_path / "one", 5), write(tmp_path / "two", 6)
    (tmp_path / "two" / "blocks.py").write_text(BLOCKS.replace("3)", "5)"))
    kernels = [built(model).layers[0].kernel for model in (one, two, one)]
    assert kernels == [(3, 3), (5, 5), (3, 3)]


def test_errors_leave_python_as_it_was(tmp_path):
    model = write(tmp_path, 5)
    (tmp_path / "late.py").write_text("raise LookupError('late')\n")
    path = list(sys.path)
    with pytest.raises(LookupError, match="late"):
        built(model)
    assert sys.path == path and "blocks" not in sys.modules
    with own_code("resnet20") as files:
        assert files == {} and sys.path == path


@pytest.mark.parametrize("name", ["net.py", "blocks.py", "layers/head.py"])
def test_a_file_that_changed_is_named(name, tmp_path):
    model = write(tmp_path, 5)
    recorded = built(model).code
    check_code(model, recorded)
    check_code(model, None)  # a run of before there were hashes
    (tmp_path / name).write_text((tmp_path / name).read_text() + "\n")
    with pytest.raises(FedgateError, match=f"{name} has changed since"):
        check_code(model, recorded)
    (tmp_path / name).unlink()
    with pytest.raises(FedgateError, match=f"{name} is gone"):
        check_code(model, recorded)


def test_a_file_that_is_none(tmp_path):
    with pytest.raises(UsageError, match="is no Python file"):
        built(f"{tmp_path}/none.py:build")
