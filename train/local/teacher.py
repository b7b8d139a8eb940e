"""Distillation from another run's network: what it says of a batch is what the clients' network learns from.

    loss = (1 - a) CE(labels) + a T^2 KL(softmax(teacher / T) || softmax(student / T))

G. Hinton, O. Vinyals, J. Dean, "Distilling the Knowledge in a Neural Network", 2015, section 2; a is --distill, T is
--temperature.
"""

import torch
import torch.nn.functional as F


class Teacher:
    """A trained network that is left as it is, at its highest level; its logits stand in float32.

    statistics: (mean, std), C floats each, by which it was trained; theirs: those of the batches that it is given.
    """

    def __init__(self, network, statistics, theirs):
        self.network = network.eval().requires_grad_(False)
        network.set_densities(network.densities)
        device = next(network.parameters()).device
        (mean, std), (other_mean, other_std) = (
            [torch.tensor(values, dtype=torch.float32, device=device).view(-1, 1, 1) for values in each]
            for each in (statistics, theirs)
        )
        same = [tuple(each) for each in statistics] == [tuple(each) for each in theirs]
        self.scale, self.shift = (None, None) if same else (other_std / std, (other_mean - mean) / std)

    @torch.no_grad()
    def __call__(self, x):
        """Normalised images x (N, C, H, W) -> logits float32 (N, classes)."""
        x = x if self.scale is None else x * self.scale + self.shift
        logits = self.network(x.contiguous(memory_format=torch.channels_last)).float()
        self.network.forget()
        return logits


def distilled(loss, logits, taught, share, temperature):
    """The objective of each example that a teacher speaks of.

    loss: cross-entropy with the labels, (...,); logits, taught: the network's and the teacher's, (..., classes).
    """
    targets, found = (taught / temperature).log_softmax(-1), (logits.float() / temperature).log_softmax(-1)
    divergence = F.kl_div(found, targets, reduction="none", log_target=True).sum(-1)
    return (1 - share) * loss + share * temperature**2 * divergence
