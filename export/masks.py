"""Which channels a gate opens, by comparisons and sums alone, which runtimes' stock operators have."""

import torch


def earlier(channels):
    """bool (C, C): whether channel j comes before i, at [i, j]; it then wins a tie."""
    return torch.ones(channels, channels).tril(-1).bool()


def open_channels(g, selected, kept, before):
    """The mask of g (N, C) or (N, C, 1, 1): rank_i < k and g_i > 0; bool (N, C).

    selected: one-hot float32 (1, levels). kept: k by level, float32 (levels, 1). before: by `earlier`.
    """
    channels = len(before)
    column, row = g.reshape(-1, channels, 1), g.reshape(-1, 1, channels)
    ahead = (row > column) | ((row == column) & before)
    rank = ahead.float().sum(2)
    return (rank < selected @ kept) & (column[:, :, 0] > 0)
