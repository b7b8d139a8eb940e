"""Named settings of `fedgate train`: the paper's experiments, and one for two CPU cores."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """options: by name, as in a --config file. differs: where the experiment it is named after did otherwise."""

    summary: str
    differs: str
    options: dict


PRESETS = {
    # arXiv 2106.06921v1, "Adaptive Dynamic Pruning for Non-IID Federated Learning"
    "paper-v1": Preset(
        summary="The paper's first version: 10 clients, all of them in each of 100 rounds, ResNet-32, for CIFAR-10.",
        differs="the paper does not clip gradients; here a step's norm is at most 1, since gates may explode without. "
        "Density 0.7 is 59 % of ResNet-32's MACs; the paper's 50 % is density 0.61. Clients send the channels that "
        "they opened, and a weight is averaged over those who sent it; --upload full is the released code's way.",
        options={
            "model": "resnet32",
            "clients": 10,
            "partition": "dirichlet:0.1",
            "rounds": 100,
            "local_epochs": 10,
            "batch_size": 64,
            "lr": 0.01,
            "lr_schedule": "constant",
            "momentum": 0.9,
            "weight_decay": 1e-5,
            "gate": "paper",
            "density": [0.7],
            "density_schedule": 0.0,
        },
    ),
    # CCGrid 2023; batch size, plain SGD and that each client counts its own epochs are of the authors' released code.
    "paper-v2": Preset(
        summary="The published version: 100 clients, 10 of them in each of 100 rounds, ResNet-20, for CIFAR-10.",
        differs="the released code prunes weights below 0.001 after each epoch; here gates close channels, at density "
        "0.5, and gradients are clipped. The rate counts the epochs of an average client, not each one's own. Clients "
        "send the channels that they opened, not all weights, as --upload full and the released code do.",
        options={
            "model": "resnet20",
            "clients": 100,
            "fraction_train": 0.1,
            "partition": "dirichlet:0.5",
            "rounds": 100,
            "local_epochs": 20,
            "batch_size": 64,
            "lr": 0.01,
            "lr_schedule": "exponential",
            "lr_decay": 0.99,
            "momentum": 0.0,
            "weight_decay": 0.0,
            "gate": "paper",
            "density": [0.5],
            "density_schedule": 0.0,
        },
    ),
    # Measured on AMD EPYC cores with AVX2, float32: a client trains 173 images of 32x32 a CPU second on ResNet-20 at
    # density 0.5 (107 on ResNet-32, with which half an hour is six rounds). Ten rounds of 50,000 images take two cores
    # 1,450 s, their evaluations 100 s, reading and dividing the data the rest.
    "cpu": Preset(
        summary="What two cores train in half an hour: 10 clients, ResNet-20, for CIFAR-10; add --workers 2.",
        differs="10 rounds of 1 local epoch, and a higher rate that falls to zero over them.",
        options={
            "model": "resnet20",
            "clients": 10,
            "partition": "dirichlet:0.5",
            "rounds": 10,
            "local_epochs": 1,
            "batch_size": 64,
            "lr": 0.1,
            "density": [0.5],
        },
    ),
}


def preset_section():
    """The presets for `--help`: (title, rows of name and text)."""
    return "Presets", [(name, f"{preset.summary} Differs: {preset.differs}") for name, preset in PRESETS.items()]


def preset_notes(name):
    """What a printed configuration says of the preset it began with, line by line; nothing without one."""
    if name is None:
        return []
    return [f"Preset {name}. {PRESETS[name].summary}", f"Differs: {PRESETS[name].differs}"]
