"""Networks start from files of others' names, and what does not fit is named in one line."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from fedgate.device_runtime.errors import FedgateError, UsageError
from fedgate.train.network.build import build_network, load_tensors, network_tensors
from fedgate.train.network.models import build
from fedgate.train.network.weights import fitted, read_weights

SHAPE, CLASSES = (3, 32, 32), 10
IMAGES = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(0))


def plain(model="resnet20", classes=CLASSES, shape=SHAPE):
    """A plain network whose norms are not those of a fresh one."""
    torch.manual_seed(1)
    network = build(model, classes, shape)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
    return network.eval()


def gated(model="resnet20", gate="none", densities=(1.0,), classes=CLASSES, shape=SHAPE):
    return build_network(model, gate, densities, classes, shape).eval()


def as_others(name):
    """A name of the registered ResNets as torchvision and most repositories of CIFAR networks have it."""
    name = re.sub(r"^stem\.0\.", "conv1.", name)
    name = re.sub(r"^stem\.1\.", "bn1.", name)
    name = re.sub(r"^stages\.(\d)\.", lambda match: f"layer{int(match[1]) + 1}.", name)
    return name.replace(".norm", ".bn").replace(".shortcut.", ".downsample.")


SPELLINGS = {
    "ours": lambda name: name,
    "torchvision": lambda name: as_others(name).replace("head.", "fc."),
    "cifar": lambda name: as_others(name).replace("head.", "linear."),
    "parallel": lambda name: "module." + as_others(name).replace("head.", "linear."),
}


def spelled(network, spelling):
    return {SPELLINGS[spelling](name): value for name, value in network.state_dict().items()}


@torch.no_grad()
def logits(network):
    return network(IMAGES[:, : network.shape[0]] if hasattr(network, "shape") else IMAGES)


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_in_any_names_gives_its_own_networks_logits(spelling, suffix, tmp_path):
    source, path = plain(), tmp_path / f"weights{suffix}"
    tensors = spelled(source, spelling)
    save_file(tensors, path) if suffix == ".safetensors" else torch.save({"state_dict": tensors}, path)
    network = gated()
    start = fitted(network, read_weights(path))
    load_tensors(network, start.tensors)
    torch.testing.assert_close(logits(network), logits(source))
    assert start.notes == ()


@pytest.mark.parametrize("model", ["resnet18", "vgg11"])
def test_projections_and_chains(model):
    source, network = plain(model), gated(model)
    names = SPELLINGS["torchvision" if model == "resnet18" else "ours"]
    weights = {names(name): value.numpy() for name, value in source.state_dict().items()}
    weights = {name: value for name, value in weights.items() if "num_batches" not in name}
    load_tensors(network, fitted(network, weights).tensors)
    torch.testing.assert_close(logits(network), logits(source))


def test_every_level_starts_from_the_one_norm_and_gates_start_anew():
    network = gated(gate="paper", densities=(0.5, 1.0))
    before = network_tensors(network)
    tensors, notes = fitted(network, {n: v.numpy() for n, v in plain().state_dict().items() if "num_b" not in n}, "w")
    for name, value in tensors.items():
        if ".norms.1." in name:
            assert np.array_equal(value, tensors[name.replace(".norms.1.", ".norms.0.")])
        if ".gate." in name:
            assert np.array_equal(value, before[name])
    assert notes == ("w has no gates for 18 layers: those start anew",)


def test_a_run_gives_each_level_its_own_norm_or_the_highest_ones():
    source = gated(gate="paper", densities=(0.5, 1.0))
    weights = network_tensors(source)
    for i, name in enumerate(sorted(weights)):
        weights[name] = weights[name] + i
    same, notes = fitted(gated(gate="paper", densities=(0.5, 1.0)), weights)
    assert same.keys() == weights.keys() and all(np.array_equal(same[name], weights[name]) for name in same)
    assert notes == ()
    dense, _ = fitted(gated(), weights)
    assert np.array_equal(dense["stem.0.norms.0.weight"], weights["stem.0.norms.1.weight"])


def test_a_head_for_other_classes_starts_anew_and_says_so():
    network = gated(classes=3)
    before = network_tensors(network)
    weights = {name: value.numpy() for name, value in plain().state_dict().items() if "num_b" not in name}
    tensors, notes = fitted(network, weights, "w")
    assert np.array_equal(tensors["head.weight"], before["head.weight"])
    assert np.array_equal(tensors["stem.0.conv.weight"], weights["stem.0.weight"])
    assert notes == ("w has a head for other classes: one for 3 starts anew",)


def drop(weights):
    del weights["stages.1.0.conv2.weight"]


def more(weights):
    weights["stages.3.0.conv1.weight"] = np.zeros((1, 1, 3, 3), np.float32)


def other_shape(weights):
    weights["stem.0.weight"] = np.zeros((16, 3, 5, 5), np.float32)


def not_finite(weights):
    weights["head.bias"] = np.full(CLASSES, np.nan, np.float32)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (drop, "it lacks stages.1.0.conv2.conv.weight"),
        (more, "it also has stages.3.0.conv1.weight"),
        (other_shape, r"'stem.0.weight' is \[16, 3, 5, 5\], and here \[16, 3, 3, 3\]"),
        (not_finite, "'head.bias' holds values that are not finite"),
    ],
)
def test_what_does_not_fit_is_named(change, reason):
    weights = {name: value.numpy() for name, value in plain().state_dict().items() if "num_b" not in name}
    change(weights)
    with pytest.raises(UsageError, match=reason):
        fitted(gated(), weights, "w")


class Malicious:
    def __reduce__(self):
        return (print, ("run",))


@pytest.mark.parametrize("what", [Malicious(), {"w": Malicious()}, [torch.zeros(1)], {"epoch": 3}])
def test_what_is_no_state_dict_is_refused_and_runs_nothing(what, tmp_path, capsys):
    torch.save(what, tmp_path / "w.pth")
    with pytest.raises(FedgateError) as caught:
        read_weights(tmp_path / "w.pth")
    assert "\n" not in str(caught.value) and capsys.readouterr().out == ""


@settings(max_examples=60, deadline=None)
@given(data=st.data(), suffix=st.sampled_from([".safetensors", ".pth"]))
def test_damaged_files_are_refused_or_read(data, suffix, tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / f"w{suffix}"
    tensors = {"a.weight": torch.zeros(3, 2), "b": torch.ones(4)}
    save_file(tensors, path) if suffix == ".safetensors" else torch.save(tensors, path)
    blob = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(blob[: data.draw(st.integers(0, len(blob)))])
    try:
        found = read_weights(path)
    except FedgateError as error:
        assert "\n" not in str(error)
    else:
        assert all(value.dtype == np.float32 for value in found.values())
