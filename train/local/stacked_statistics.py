"""Norm statistics of networks with several levels (see `level_statistics`) for several clients that train together."""

import torch

from .level_statistics import counted, merged, normed_positions, settled


class StackedLevelStatistics:
    """What `LevelStatistics` gathers, of B clients in a stack; nothing for networks with one level.

    sums: the epoch's count, mean and sum of squares, float64 (3, B, levels, C); C: the channels of all layers in
    `self.positions`, one layer after the other.
    """

    def __init__(self, network, clients, adaptive):
        self.positions = normed_positions(network)
        units = {name: network.units[name] for name in self.positions}
        device = next(network.parameters()).device
        self.gated = {name: adaptive and unit.gate is not None for name, unit in units.items()}
        self.channels = [unit.conv.out_channels for unit in units.values()]
        values = torch.tensor(list(self.positions.values()), dtype=torch.float64)
        values = values.repeat_interleave(torch.tensor(self.channels, dtype=torch.int64))
        self.values = values.to(device)  # of a sample, by channel
        shape = 3, clients, len(network.densities), len(values)
        self.sums = torch.zeros(shape, dtype=torch.float64, device=device)

    def keep(self, rows):
        """Let the other clients go."""
        self.sums = self.sums[:, rows]

    def new_epoch(self, row):
        """Forget a client's epoch before."""
        self.sums[:, row] = 0

    @torch.no_grad()
    def add(self, forward, rows, levels):
        """Count a `StackedForward`'s last pass; rows, levels: each client and the level that it trained, int64 (B,)."""
        if not self.positions:
            return
        means, variances = (torch.cat([forward.seen[name][i] for name in self.positions], 1) for i in range(2))
        every = torch.ones_like(forward.valid[:, :1])
        opened = [
            forward.open[name].any(1) if self.gated[name] else every.expand(-1, c)
            for name, c in zip(self.positions, self.channels, strict=True)
        ]
        counts = forward.sizes[:, None] * self.values
        counts = counts * (counts > 1)  # a single value has no statistics
        batch = counted(means, variances, counts, torch.cat(opened, 1))
        self.sums[:, rows, levels] = torch.stack(merged(self.sums[:, rows, levels].unbind(), batch))

    def settle(self, row, values):
        """Set a client's statistics among a stack's values to its epoch's, where its epoch had any."""
        layers = self.sums[:, row].split(self.channels, -1) if self.positions else ()
        for name, sums in zip(self.positions, layers, strict=True):
            for level in range(sums.shape[1]):
                mean, var = (values[f"{name}.norms.{level}.running_{kind}"][row] for kind in ("mean", "var"))
                for old, new in zip((mean, var), settled(sums[:, level], mean, var), strict=True):
                    old.copy_(new)
