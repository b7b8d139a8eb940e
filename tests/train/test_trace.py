"""A network's two modes, what it returns, and what it may have without gates."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fedgate.device_runtime.errors import UsageError
from fedgate.train.engines.cohort import reason_against
from fedgate.train.local.sliced import SlicedForward
from fedgate.train.network.build import check_logits, gate_network


class Net(nn.Module):
    """A stem, a convolution, features (N, 16) that `how` treats, and logits."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.stem, self.conv = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.norm, self.drop = nn.BatchNorm1d(16), nn.Dropout(0.5)
        self.head, self.aux = nn.Linear(16, 4), nn.Linear(16, 4)

    def forward(self, x):
        x = F.relu(self.conv(F.relu(self.stem(x)))).mean((2, 3))
        return self.how(self, x)


DROPPED = {
    "function": lambda net, x: net.head(F.dropout(x, 0.5, training=net.training)),
    "positional": lambda net, x: net.head(torch.dropout(x, 0.5, net.training)),
    "channels": lambda net, x: net.head(F.dropout1d(x, 0.5, training=net.training)),
    "alpha": lambda net, x: net.head(F.alpha_dropout(x, 0.5, training=net.training)),
    "branch": lambda net, x: net.head(F.dropout(x) if net.training else x),
    "module": lambda net, x: net.head(net.drop(x)),
}
PLAIN = {
    "norm": lambda net, x: net.head(net.norm(x)),
    "product": lambda net, x: net.head(x * torch.sigmoid(x)),
    "activation": lambda net, x: net.head(F.gelu(F.relu6(x))),
}
REFUSED = {
    "dict": (lambda net, x: {"logits": net.head(x)}, "returns a dict, not logits alone"),
    "tuple": (lambda net, x: (net.head(x), x), "returns a tuple, not logits"),
    "aux": (lambda net, x: (net.head(x), net.aux(x)) if net.training else net.head(x), "returns a tuple in training"),
    "many": (lambda net, x: x, "returns 16 classes, and the data have 4"),
    "class": (lambda net, x: net.head(x).argmax(1), r"a tensor of shape \(N\), not"),
    "whole": (lambda net, x: net.head(x).round().long(), "returns int64, not"),
    "always": (lambda net, x: net.head(F.dropout(x)), "drops out at random in evaluation too"),
    "batch": (lambda net, x: net.head(x.reshape(1, 16)), "does not take two images at a time"),
}


def network_of(how, gate="none"):
    torch.manual_seed(0)
    network = gate_network(Net(how), (3, 8, 8), gate, (1.0,) if gate == "none" else (0.5,))
    check_logits(network, "net.py:build", 4)
    return network


@pytest.mark.parametrize("gate", ["none", "paper"])
@pytest.mark.parametrize("how", DROPPED)
def test_dropout_is_of_training_alone(how, gate):
    if gate == "paper" and how in ("channels", "alpha"):  # what they drop is not a closed channel
        with pytest.raises(UsageError, match="cannot gate"):
            network_of(DROPPED[how], gate)
        return
    network, x = network_of(DROPPED[how], gate), torch.randn(4, 3, 8, 8)
    forward = SlicedForward(network) if gate == "paper" else network
    network.train()
    assert not torch.equal(forward(x), forward(x))
    network.eval()
    assert torch.equal(network(x), network(x))
    plain = network_of(lambda net, x: net.head(x), gate).eval()
    assert torch.equal(network(x), plain(x))


def test_a_branch_of_training_trains_its_own_layers():
    network = network_of(lambda net, x: net.head(x) + net.aux(x) if net.training else net.head(x))
    assert {"aux.weight", "head.weight"} <= network.body.state_dict().keys()
    network.train()(torch.randn(4, 3, 8, 8)).sum().backward()
    assert network.body.aux.weight.grad.abs().sum() > 0
    assert [layer.name for layer in network.layers] == ["stem", "conv", "head"]  # of evaluation


@pytest.mark.parametrize("how", REFUSED)
def test_what_is_not_logits_is_refused(how):
    function, reason = REFUSED[how]
    with pytest.raises(UsageError, match=reason):
        network_of(function)


@pytest.mark.parametrize("how", PLAIN)
def test_without_gates_a_network_has_what_it_likes(how):
    network, x = network_of(PLAIN[how]), torch.randn(4, 3, 8, 8)
    torch.manual_seed(0)
    module = Net(PLAIN[how])
    for mode in (True, False):
        assert torch.equal(network.train(mode)(x), module.train(mode)(x))
    with pytest.raises(UsageError, match="cannot gate"):
        network_of(PLAIN[how], "paper")
    assert "nothing that stacked networks have" in reason_against(network, [])


def test_a_convolution_that_makes_the_logits_is_not_gated():
    layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.BatchNorm2d(4)]
    network = gate_network(nn.Sequential(*layers, nn.Dropout(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), (3, 8, 8))
    assert list(network.gates) == ["2"]
    with pytest.raises(UsageError, match="no convolution to gate: only a stem, shortcuts or logits"):
        gate_network(nn.Sequential(*layers[:2], layers[4], nn.AdaptiveAvgPool2d(1), nn.Flatten()), (3, 8, 8))
