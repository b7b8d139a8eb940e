"""Random draws that need no saving: each is made anew from the run's seed, what it is for, and where it is made."""

import zlib

import numpy as np


def generator(seed, purpose, *place):
    """A numpy Generator of its own for each seed, purpose (text) and place (whole numbers: round, client)."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), *place])
