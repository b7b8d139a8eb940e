"""Norm statistics of a network with several levels: of a whole epoch, level by level.

A level is drawn for each batch, so a running average would be of the few batches that came last, and mean little where
clients' are averaged. Instead a client's statistics become the mean and the variance of all that its norms saw in the
last epoch; the server pools them (`strategies.norms`).
"""

import torch


class LevelStatistics:
    """Gathers, batch by batch, what the norms of a network see; does nothing for a network with one level.

    adaptive: a channel that no sample of a batch opened does not count it.
    """

    def __init__(self, network, adaptive):
        self.network, self.adaptive, self.positions = network, adaptive, normed_positions(network)
        self.norms = {}  # (layer, level) -> (norm, its momentum, its statistics at the start)
        for name in self.positions:
            for level, norm in enumerate(network.units[name].norms):
                start = norm.running_mean.clone(), norm.running_var.clone()
                self.norms[name, level] = (norm, norm.momentum, start)
                norm.momentum = 1.0  # a forward pass then leaves the batch's own statistics
        self.new_epoch()

    def new_epoch(self):
        """Forget the epoch before."""
        self.sums = {}  # (layer, level) -> count, mean, sum of squares around it; float64 (C,)

    @torch.no_grad()
    def before(self, samples):
        """To be called before a forward pass: a single value is normalised by the statistics of the start."""
        for (name, _), (norm, _, (mean, var)) in self.norms.items():
            if samples * self.positions[name] == 1:
                norm.running_mean.copy_(mean)
                norm.running_var.copy_(var)

    @torch.no_grad()
    def add(self, samples):
        """Count the last forward pass, of so many samples, before its statistics are put back."""
        level = self.network.level
        for name, positions in self.positions.items():
            unit = self.network.units[name]
            if samples * positions == 1:  # no statistics: the norm used those that it had (`units.batch_norm`)
                continue
            norm, opened = unit.norms[level], torch.ones(unit.conv.out_channels, device=unit.conv.weight.device)
            if self.adaptive and unit.gate is not None:
                opened = unit.gate.open.any(0)
            batch = counted(norm.running_mean, norm.running_var, samples * positions, opened)
            self.sums[name, level] = merged(self.sums.get((name, level)), batch)

    @torch.no_grad()
    def finish(self):
        """Set the network's statistics to the epoch's, and those of what the epoch did not have to the start's."""
        for key, (norm, momentum, (mean, var)) in self.norms.items():
            norm.momentum = momentum
            if key in self.sums:
                mean, var = settled(self.sums[key], mean, var)
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(var)


def normed_positions(network):
    """Of the layers whose statistics are gathered: by name, how many values of a channel a sample has."""
    return {
        layer.name: layer.output[0] * layer.output[1]
        for layer in network.layers
        if len(network.densities) > 1 and layer.kind == "conv" and not network.frozen
        if len(network.units[layer.name].norms)
    }


def counted(mean, var, count, opened):
    """A batch as `merged` takes it, float64; mean, var: of its `count` values a channel, the variance unbiased.

    opened: the channels that count it. All broadcast together.
    """
    seen = count * opened.double()
    copy = mean.to(torch.float64, copy=True)  # the next batch overwrites a norm's own
    return seen, copy, var.double() * (count - 1) * (seen > 0)


def settled(sums, mean, var):
    """Mean and unbiased variance of a set; those given in the channels that it does not have."""
    count, new, squares = sums
    unbiased = squares / (count - 1).clamp(min=1)
    return torch.where(count > 0, new.to(mean), mean), torch.where(count > 0, unbiased.to(var), var)


def merged(one, two):
    """Count, mean and sum of squares of two sets (Chan, Golub, LeVeque, 1983, equations 2.1); one: None for no set."""
    if one is None:
        return two
    (n, mean, squares), (m, other, more) = one, two
    total = (n + m).clamp(min=1)
    away = other - mean
    return n + m, mean + away * m / total, squares + more + away**2 * n * m / total
