"""What a run's model is worth to its clients: who is served worst, and what a little local training gives each."""

import numpy as np

from ..local.client import client_seed
from ..server.plans import local_plan

MOST_A_CLASS = 250  # test images of a class on which a client is judged
FINETUNE_LR = 0.1  # of the run's learning rate, as the model to be fine-tuned has nearly converged


def worst_decile(accuracy):
    """Mean accuracy of the tenth of the clients (one at least) with the lowest: (levels, clients) -> (levels,).

    T. Li et al., "Fair Resource Allocation in Federated Learning", ICLR 2020, section 4.
    """
    count = -(-accuracy.shape[1] // 10)
    return np.sort(accuracy, axis=1)[:, :count].mean(1)


def own_test_images(held, labels, seed):
    """Sorted indices of the test images on which a client is judged: some of each class that it holds.

    held: (classes,), its training examples by class; labels: int64 (M,) of the test set. Every client that holds a
    class gets the same `MOST_A_CLASS` images of it at most, drawn by the seed; `Evaluation.client_accuracy` weighs
    the classes by their shares.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    drawn = [order[labels[order] == label][:MOST_A_CLASS] for label in np.flatnonzero(held)]
    return np.sort(np.concatenate(drawn))


def trained_images(parts, count, seed):
    """Sorted indices of up to `count` training examples, drawn from those that the clients hold."""
    held = np.concatenate(parts)
    return np.sort(np.random.default_rng(seed).permutation(held)[:count])


def finetune_plan(info, client, epochs, lr):
    """Plain local SGD with a run's options, from its final model; a seed that no round of it has."""
    config = info.config
    seed = client_seed(config.seed, config.rounds, client)
    return local_plan(info, densities=config.density, epochs=epochs, lr=lr, seed=seed)
