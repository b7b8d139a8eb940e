"""Channel gates: which output channels of a convolution an input opens, and how strongly.

The gate is that of Feature Boosting and Suppression (X. Gao, Y. Zhao, L. Dudziak, R. Mullins, C. Xu, "Dynamic
Channel Pruning: Feature Boosting and Suppression", ICLR 2019, section 3.3), as the released code of "Heterogeneous
Federated Learning using Dynamic Model Pruning and Adaptive Gradient" (S. Yu, P. Nguyen, A. Anwar, A. Jannesari,
CCGrid 2023) uses it:

    s = mean_HW(|x|)        salience of the input channels
    g = relu(W s + b)       predicted salience of the output channels
    channel i is open when rank_i < k and g_i > 0;  pi_i = g_i where open, else 0

with rank_i = #{j: g_j > g_i} + #{j < i: g_j = g_i}. Ranks fix the order among ties, so that a mask means the same in
every program and kernel. Everything here is float32, also under autocast: in bfloat16 values near 1 tie in masses.
"""

import torch
from torch import nn

from fedgate.device_runtime.errors import UsageError, choose
from fedgate.device_runtime.formats.macs import open_count

# name -> what is special about it
GATES = {
    "paper": "all of the equations above",
    "fbs": "as `paper`, but the norm has no scale of its own, and g has an L1 penalty",
    "scale": "every channel open, g only scales: the control that shows what the choice is worth",
    "none": "no gates: the dense network",
}
# name -> which of the convolutions that can have a gate get one
GATED = {
    "all": "each",
    "hidden": "those alone whose channels another layer reads: what a residual stream holds stays whole",
}
FBS_PENALTY = 1e-8  # lambda of the L1 term (FBS, section 3.4)


def check_gate(name, densities):
    """Refuse an unknown gate and densities that are not increasing numbers in (0, 1]."""
    choose("gate", name, GATES)
    if not densities:
        raise UsageError("no density given")
    for density in densities:
        if not 0.0 < density <= 1.0:
            raise UsageError(f"density {density:g} is out of range: a density is more than 0 and at most 1")
    if list(densities) != sorted(set(densities)):
        raise UsageError(f"densities must increase: {', '.join(f'{d:g}' for d in densities)}")
    if name in ("none", "scale") and list(densities) != [1.0]:
        raise UsageError(f"gate '{name}' closes no channel: its only density is 1.0")


def salience(x):
    """Mean magnitude of each channel: x (N, C, H, W) -> (N, C), float32 (float64 for a float64 reference)."""
    return x.to(torch.promote_types(x.dtype, torch.float32)).abs().mean((2, 3))


def ranks(g):
    """Rank of each channel of g (N, C), 0 for the largest, the lower index first among equals: int64 (N, C)."""
    order = g.sort(dim=1, descending=True, stable=True).indices
    return order.argsort(dim=1)  # the inverse permutation


def open_channels(g, k):
    """The mask: g (N, C) -> bool (N, C), true for the k highest channels that are above zero."""
    return (ranks(g) < k) & (g > 0)


class Gate(nn.Module):
    """Predicts a layer's pi from the layer's input.

    After a forward pass `g`, `open` and `pi`, each (N, C_out), are what that pass computed; they are read by
    salience records, losses and the comparison of exported programs. `forced`, where set, is a bool mask (C_out) or
    (N, C_out) that takes the place of the ranks.
    """

    def __init__(self, in_channels, out_channels, densities, kind="paper"):
        super().__init__()
        self.predictor = nn.Linear(in_channels, out_channels)
        # Default weights explode within a few steps, small ones around a bias of one do not.
        nn.init.normal_(self.predictor.weight, std=0.01)
        nn.init.ones_(self.predictor.bias)
        self.kind = kind
        self.out_channels = out_channels
        self.set_densities(densities)
        self.forced = None
        self.g = self.open = self.pi = None

    def set_densities(self, densities):
        """Set the kept fraction of each level."""
        self.k = [open_count(density, self.out_channels) for density in densities]

    def forward(self, x, level):
        """x (N, C_in, H, W) -> pi (N, C_out), float32."""
        return self.choose(salience(x), level)

    def choose(self, s, level):
        """s (N, C_in), the salience of the input channels -> pi (N, C_out), float32."""
        with torch.autocast(s.device.type, enabled=False):
            g = torch.relu(self.predictor(s))
        if self.forced is not None:
            mask = self.forced.expand_as(g) & (g > 0)
        elif self.kind == "scale":
            mask = torch.ones_like(g, dtype=torch.bool)
        else:
            mask = open_channels(g.detach(), self.k[level])
        self.g, self.open = g, mask
        self.pi = g * mask
        return self.pi
