"""Norm statistics of a network with several levels: of a whole epoch, level by level.

A level is drawn for each batch, so a running average would be of the few batches that came last, and mean little where
clients' are averaged. Instead a client's statistics become the mean and the variance of all that its norms saw in the
last epoch; the server pools them (`strategies.norms`).
"""

import torch


class LevelStatistics:
    """Gathers, batch by batch, what the norms of a network see; does nothing for a network with one level.

    held: a channel that no sample of a batch opened does not count it.
    """

    def __init__(self, network, held):
        self.network, self.held = network, held
        self.norms = {}  # (layer, level) -> (norm, its momentum, its statistics at the start)
        if len(network.densities) > 1:
            for name, unit in network.units.items():
                for level, norm in enumerate(unit.norms if name not in network.frozen else ()):
                    start = norm.running_mean.clone(), norm.running_var.clone()
                    self.norms[name, level] = (norm, norm.momentum, start)
                    norm.momentum = 1.0  # a forward pass then leaves the batch's own statistics
        self.positions = {layer.name: layer.output[0] * layer.output[1] for layer in network.layers}
        self.new_epoch()

    def new_epoch(self):
        """Forget the epoch before."""
        self.sums = {}  # (layer, level) -> count, mean, sum of squares around it; float64 (C,)

    @torch.no_grad()
    def add(self, samples):
        """Count the last forward pass, of so many samples, before its statistics are put back."""
        level = self.network.level
        for name, unit in self.network.units.items():
            if (name, level) not in self.norms:
                continue
            norm = unit.norms[level]
            mean, count = norm.running_mean.double(), torch.full_like(norm.running_mean, samples, dtype=torch.float64)
            count *= self.positions[name]
            squares = norm.running_var.double() * (count - 1)
            if self.held and unit.gate is not None:
                count = count * unit.gate.open.any(0)
                squares = squares * (count > 0)
            self.sums[name, level] = merged(self.sums.get((name, level)), (count, mean, squares))

    @torch.no_grad()
    def finish(self):
        """Set the network's statistics to the epoch's, and those of what the epoch did not have to the start's."""
        for key, (norm, momentum, (mean, var)) in self.norms.items():
            norm.momentum = momentum
            if key in self.sums:
                count, new, squares = self.sums[key]
                mean = torch.where(count > 0, new.to(mean), mean)
                var = torch.where(count > 0, (squares / (count - 1).clamp(min=1)).to(var), var)
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(var)


def merged(one, two):
    """Count, mean and sum of squares of two sets (Chan, Golub, LeVeque, 1983, equations 2.1); one: None for no set."""
    if one is None:
        return two
    (n, mean, squares), (m, other, more) = one, two
    total = (n + m).clamp(min=1)
    away = other - mean
    return n + m, mean + away * m / total, squares + more + away**2 * n * m / total
