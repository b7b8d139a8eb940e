"""The plain networks, by name. `fedgate.train.network.build.gate_network` gates them, as it gates a user's own.

ResNet-20/32/44/56: K. He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2, with the
parameter-free shortcuts (option A). ResNet-18: ibid., table 1, with a 3x3 stem for small images. VGG: K. Simonyan and
A. Zisserman, ICLR 2015, configurations A and D, with batch norm and one linear layer, as usual for 32x32 images.
"""

import torch.nn.functional as F
from torch import nn

from fedgate.device_runtime.errors import UsageError, choose

from .own_code import build_own, is_own


def scaled(channels, width):
    """The channels of a slim network: width times as many, at least one."""
    return max(1, int(channels * width + 0.5))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: option A (subsampled, zero-padded) or a 1x1 projection.

    hidden: the channels between the convolutions.
    """

    def __init__(self, c_in, hidden, c_out, stride, projection):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, hidden, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(hidden)
        self.conv2 = nn.Conv2d(hidden, c_out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(c_out)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()
        self.stride, self.extra = stride, c_out - c_in
        self.shortcut = None
        if projection and (stride != 1 or c_in != c_out):
            self.shortcut = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x):
        y = self.relu1(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        if self.shortcut is not None:
            x = self.shortcut(x)
        elif self.stride != 1 or self.extra:
            x = x[:, :, :: self.stride, :: self.stride]
            x = F.pad(x, (0, 0, 0, 0, self.extra // 2, self.extra - self.extra // 2))
        return self.relu2(y + x)


class ResNet(nn.Module):
    """A stem, stages of basic blocks (the first of each later stage strided), the mean over H, W, a linear layer."""

    def __init__(self, stem, widths, hidden_width, blocks, classes, projection):
        super().__init__()
        self.stem = stem
        stages, c_in = [], widths[0]
        for stage, (c_out, n) in enumerate(zip(widths, blocks, strict=True)):
            strides = [1 if stage == 0 else 2] + [1] * (n - 1)
            stages.append(nn.Sequential())
            for stride in strides:
                stages[-1].append(BasicBlock(c_in, scaled(c_out, hidden_width), c_out, stride, projection))
                c_in = c_out
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(c_in, classes)

    def forward(self, x):
        return self.head(self.stages(self.stem(x)).mean((2, 3)))


def cifar_resnet(blocks, classes, shape, width, hidden_width):
    widths = [scaled(c, width) for c in (16, 32, 64)]
    stem = nn.Sequential(nn.Conv2d(shape[0], widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU())
    return ResNet(stem, widths, hidden_width, [blocks] * 3, classes, projection=False)


def resnet18(classes, shape, width, hidden_width):
    widths = [scaled(c, width) for c in (64, 128, 256, 512)]
    large = min(shape[1:]) >= 128  # the stem of the paper; smaller images keep their resolution
    conv = nn.Conv2d(shape[0], widths[0], 7 if large else 3, 2 if large else 1, 3 if large else 1, bias=False)
    stem = nn.Sequential(conv, nn.BatchNorm2d(widths[0]), nn.ReLU())
    if large:
        stem.append(nn.MaxPool2d(3, 2, 1))
    return ResNet(stem, widths, hidden_width, [2] * 4, classes, projection=True)


def vgg(plan, classes, shape, width, hidden_width):
    if hidden_width != 1.0:
        raise UsageError("--hidden-width is of networks with residual blocks, such as resnet20")
    layers, c_in, size = [], shape[0], min(shape[1:])
    for step in plan:
        if step == "pool":
            if size > 1:  # images smaller than 32x32 run out of pixels earlier
                layers.append(nn.MaxPool2d(2))
            size //= 2
            continue
        c_out = scaled(step, width)
        layers += [nn.Conv2d(c_in, c_out, 3, 1, 1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU()]
        c_in = c_out
    return Classifier(nn.Sequential(*layers), c_in, classes)


class Classifier(nn.Module):
    """Features, their mean over H, W, and a linear layer."""

    def __init__(self, features, channels, classes):
        super().__init__()
        self.features = features
        self.head = nn.Linear(channels, classes)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


MODELS = {
    "cnn": lambda *a: vgg([32, 64, "pool", 64], *a),
    "resnet20": lambda *a: cifar_resnet(3, *a),
    "resnet32": lambda *a: cifar_resnet(5, *a),
    "resnet44": lambda *a: cifar_resnet(7, *a),
    "resnet56": lambda *a: cifar_resnet(9, *a),
    "resnet18": resnet18,
    "vgg11": lambda *a: vgg([64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool", 512, 512, "pool"], *a),
    "vgg16": lambda *a: vgg([64, 64, "pool", 128, 128, "pool"] + [256] * 3 + ["pool"] + ([512] * 3 + ["pool"]) * 2, *a),
}


def build(name, classes, shape, width=1.0, hidden_width=1.0):
    """The plain network `name` for images of shape (C, H, W), its channels times `width`, freshly initialised.

    hidden_width: the channels inside of a residual block, as a fraction of those that it adds to the stream.
    name: a key of `MODELS`, or FILE.py:FUNCTION for a user's own, called as FUNCTION(classes, shape).
    Convolutions of registered models get He initialisation (K. He et al., ICCV 2015), which their sources use.
    """
    if is_own(name):
        if (width, hidden_width) != (1.0, 1.0):
            raise UsageError(f"widths are for registered models; '{name}' decides its own channels")
        return build_own(name, classes, tuple(shape))
    choose("model", name, [*MODELS, "FILE.py:FUNCTION"])
    for value in (width, hidden_width):
        if not 0.0 < value <= 4.0:
            raise UsageError(f"width {value:g} is out of range: more than 0 and at most 4")
    network = MODELS[name](classes, tuple(shape), width, hidden_width)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network
