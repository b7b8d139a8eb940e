"""Features of made-up images, the same in every process."""

import numpy as np

KEY = {"bundle": "b", "data": "d"}


def rows(count):
    random = np.random.default_rng(0)
    return random.normal(size=(count, 2, 3, 3)).astype(np.float32), random.integers(0, 2, (count, 5), dtype=np.uint8)
