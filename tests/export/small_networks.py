"""Small networks of a user, one for each way in which channels travel, with weights that leave no equation trivial."""

import torch
import torch.nn.functional as F
from torch import nn
from trained import spread_gates

from fedgate.train.network.build import gate_network

SHAPE = (3, 8, 8)
CLASSES = 5


def conv_norm(c_in, c_out, kernel=3, stride=1, bias=False):
    conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=bias)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out))


class Residual(nn.Module):
    """Two gated convolutions and an identity shortcut, after a stem; then a gated one that reads the sum."""

    def __init__(self):
        super().__init__()
        self.stem, self.one, self.two = conv_norm(3, 8), conv_norm(8, 12), conv_norm(12, 8)
        self.three, self.head = conv_norm(8, 10), nn.Linear(10, CLASSES)

    def forward(self, x):
        x = F.relu(self.stem(x))
        x = F.relu(x + self.two(F.relu(self.one(x))))
        return self.head(F.relu(self.three(x)).mean((2, 3)))


class Projection(nn.Module):
    """A residual block whose shortcut is a 1x1 projection with a stride."""

    def __init__(self, width=6):
        super().__init__()
        self.stem, self.one, self.two = conv_norm(3, width), conv_norm(width, 8, stride=2), conv_norm(8, 8)
        self.shortcut, self.head = conv_norm(width, 8, 1, 2), nn.Linear(8, CLASSES)

    def forward(self, x):
        x = F.relu(self.stem(x))
        return self.head(F.relu(self.two(F.relu(self.one(x))) + self.shortcut(x)).mean((2, 3)))


class Signed(nn.Module):
    """No ReLU between two gated convolutions: the second one's salience needs the magnitude of negative values."""

    def __init__(self):
        super().__init__()
        self.stem, self.one, self.two = conv_norm(3, 6), conv_norm(6, 9), conv_norm(9, 7)
        self.head = nn.Linear(7, CLASSES)

    def forward(self, x):
        return self.head(self.two(self.one(self.stem(x))).mean((2, 3)))


def chain(*tail, stem_bias=False):
    return nn.Sequential(conv_norm(3, 6, bias=stem_bias), nn.ReLU(), *tail)


NETWORKS = {
    "residual": Residual,
    "projection": Projection,
    # PyTorch 2.13's gradient of a strided 1x1 filter over 6 channels, channels last, writes where it should not
    "projection of 8": lambda: Projection(8),
    "residual, hidden": Residual,
    "projection of 8, hidden": lambda: Projection(8),
    "signed": Signed,
    # feature i of the linear layer belongs to channel i // 16
    "flatten": lambda: chain(
        conv_norm(6, 10), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(160, CLASSES)
    ),
    "max pooling": lambda: chain(
        conv_norm(6, 10), nn.ReLU(), nn.MaxPool2d(2), conv_norm(10, 8), nn.ReLU(), nn.Flatten(), nn.Linear(128, CLASSES)
    ),
    "average pooling": lambda: chain(
        conv_norm(6, 10), nn.ReLU(), nn.AvgPool2d(2), conv_norm(10, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, CLASSES)
    ),
    "no norm": lambda: chain(
        nn.Conv2d(6, 10, 3, bias=False), nn.ReLU(), nn.Conv2d(10, 8, 3, 2, bias=True), nn.ReLU(), nn.Flatten(),
        nn.Linear(32, CLASSES)
    ),
    "bias and norm": lambda: chain(
        conv_norm(6, 10, bias=True), nn.ReLU(), conv_norm(10, 8, 1, bias=True), nn.ReLU(), nn.Flatten(),
        nn.Linear(512, CLASSES, bias=False), stem_bias=True
    ),
    "two linear layers": lambda: chain(
        conv_norm(6, 10), nn.ReLU(), nn.Flatten(), nn.Linear(640, 12), nn.ReLU(), nn.Linear(12, CLASSES)
    ),
}  # fmt: skip


@torch.no_grad()
def small_network(name, densities, gate="paper", seed=0):
    """A gated network of `NETWORKS`; norms and predictors are drawn, each level's norms differently."""
    torch.manual_seed(seed)
    gated = "hidden" if name.endswith("hidden") else "all"
    network = gate_network(NETWORKS[name](), SHAPE, gate, densities, gated)
    for unit in network.units.values():
        for i, norm in enumerate(unit.norms):
            norm.weight.uniform_(0.5, 2.0).mul_(torch.randn_like(norm.weight).sign())
            norm.bias.normal_()
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.2, 3.0)
            if i:  # not so different that one predictor could not serve all levels
                for name, tensor in norm.state_dict().items():
                    tensor.mul_(0.2).add_(unit.norms[0].state_dict()[name], alpha=0.8)
    spread_gates(network.eval(), random_images(64, seed=2))
    return network


def random_images(count=16, seed=1):
    """Images whose colours differ in strength, and so in salience: float32 (count, 3, 8, 8)."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(count, *SHAPE, generator=draw) * torch.randn(count, 3, 1, 1, generator=draw).exp()


EXACT_SHAPE = (3, 4, 4)


@torch.no_grad()
def exact_network(densities):
    """A residual network whose gate values are exact in float32, and often equal: small integers and powers of two.

    Each gate multiplies the digits that a value needs, so the second gate's values are powers of two whatever it
    reads, and the filters are sparse. With dense ones the third gate's sums would need more than 24 bits.
    """
    draw = torch.Generator().manual_seed(4)

    def choose(tensor, *values):
        tensor.copy_(torch.tensor(values)[torch.randint(0, len(values), tensor.shape, generator=draw)])

    torch.manual_seed(3)
    module = Residual()
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.eps = 0.0
    network = gate_network(module, EXACT_SHAPE, "paper", densities)
    for name, unit in network.units.items():
        choose(unit.conv.weight, *[0.0] * 10, 1.0, 1.0, -1.0)
        for norm in unit.norms:
            choose(norm.weight, 2.0, 4.0)
            choose(norm.bias, -1.0, 0.0, 1.0)
            choose(norm.running_mean, -1.0, 0.0, 1.0)
            norm.running_var.fill_(4.0)
        if name.startswith("two"):
            unit.gate.predictor.weight.zero_()
            choose(unit.gate.predictor.bias, -1.0, 1.0, 2.0)
        elif unit.gate is not None:  # three different rows, so that most gates of a layer have equals
            rows = torch.empty(3, unit.conv.in_channels)
            choose(rows, 0.0, 0.0, 1.0, -1.0)
            unit.gate.predictor.weight.copy_(rows[torch.arange(unit.gate.out_channels) % 3])
            unit.gate.predictor.bias.fill_(1.0)
    return network.eval()


def integer_images():
    return torch.randint(0, 2, (24, *EXACT_SHAPE), generator=torch.Generator().manual_seed(5)).float()
