"""The `cnn` on digits: a plan to train it by, and which entries of it belong to which channel."""

import torch

from fedgate.train.local.client import LocalPlan
from fedgate.train.network.build import build_network

PLAN = LocalPlan(
    densities=(0.5,),
    epochs=3,
    batch_size=32,
    lr=0.05,
    seed=7,
)


# The `cnn`, by hand: for each gated layer what its own channels index first, and what they index second as inputs.
OWN = {
    layer: [f"{layer}.{name}" for name in ("conv.weight", "gate.predictor.weight", "gate.predictor.bias")]
    + [f"{layer}.norms.0.{name}" for name in ("weight", "bias", "running_mean", "running_var")]
    for layer in ("features.3", "features.7")
}


READS = {"features.3": ["features.7.conv.weight", "features.7.gate.predictor.weight"], "features.7": ["head.weight"]}


def network_of(gate="paper", density=(0.2,)):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return build_network("cnn", gate, density, 10, (1, 8, 8)).to(memory_format=torch.channels_last)


def state_of(network, optimizer):
    """Copies of everything a step may move, by name; momentum buffers of nothing are zeros."""
    state = {f"value {name}": value.clone() for name, value in network.body.state_dict().items()}
    for name, parameter in network.body.named_parameters():
        buffer = optimizer.state[parameter].get("momentum_buffer")
        state[f"momentum {name}"] = torch.zeros_like(parameter) if buffer is None else buffer.clone()
    return state


def put_back(network, optimizer, before):
    """Entry by entry: everything of channels that the last batch closed gets its old value again."""
    places = {f"value {name}": value for name, value in network.body.state_dict().items()}
    for name, parameter in network.body.named_parameters():
        places[f"momentum {name}"] = optimizer.state[parameter].get("momentum_buffer", torch.zeros_like(parameter))
    for layer, gate in network.gates.items():
        for channel in range(gate.out_channels):
            if any(bool(sample[channel]) for sample in gate.open):
                continue
            for kind in ("value", "momentum"):
                for name in OWN[layer]:
                    if f"{kind} {name}" in places:
                        places[f"{kind} {name}"][channel] = before[f"{kind} {name}"][channel]
                for name in READS[layer]:
                    places[f"{kind} {name}"][:, channel] = before[f"{kind} {name}"][:, channel]
