"""Images that clients keep back: they train nothing, and are there to calibrate and to judge by."""

import numpy as np

from ..draws import generator


def hold_out(labels, parts, share, seed):
    """Of each client's examples (those that train, those held out), both sorted: two lists of index arrays.

    By class where it can: of n images of a class floor(share * n + u) are held out, u one draw from [0, 1) for each
    client and class, so that the shares are right on average where classes are small. A client keeps at least one
    image to train on. labels: int64 (N,) of all examples; share: from 0 to less than 1.
    """
    trained, held = [], []
    for client, part in enumerate(parts):
        draw, chosen = generator(seed, "holdout", client), []
        for label in np.unique(labels[part]) if share else ():
            own = draw.permutation(part[labels[part] == label])
            chosen.append(own[: int(share * len(own) + draw.random())])
        chosen = np.sort(np.concatenate(chosen)) if chosen else part[:0]
        if len(chosen) == len(part):
            chosen = chosen[1:]
        held.append(chosen)
        trained.append(np.setdiff1d(part, chosen) if len(chosen) else part)
    return trained, held
