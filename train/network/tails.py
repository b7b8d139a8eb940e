"""Training a network's tail alone: its head or its last stage, on a trunk that stays as another run left it."""

from fedgate.device_runtime.errors import UsageError

from ..strategies.norms import is_statistic


def trunk(layers, trainable):
    """Names of the layers that stay frozen. Raises `UsageError` for a network without such a tail.

    layers: in the order of computation. head: the linear layers; last-stage: also the convolutions from the first that
    has the last one's output size.
    """
    if trainable == "all":
        return frozenset()
    tail = {layer.name for layer in layers if layer.kind == "linear"}
    if not tail:
        raise UsageError(f"--trainable {trainable}: the network has no linear layer at its end")
    if trainable == "last-stage":
        convs = [layer for layer in layers if layer.kind == "conv"]
        for layer in reversed(convs):
            if layer.output != convs[-1].output:
                break
            tail.add(layer.name)
    return frozenset(layer.name for layer in layers) - tail


def freeze(network, layers):
    """Keep layers of a network as they are: weights and gates, and the norm statistics of all layers."""
    network.frozen = frozenset(layers)
    for name, parameter in network.body.named_parameters():
        if is_frozen(network, name):
            parameter.requires_grad_(False)
    network.train(network.training)


def is_frozen(network, name):
    """Whether a tensor of a network belongs to a frozen layer, or is a norm statistic where there are any."""
    if network.frozen and is_statistic(name):
        return True
    kept = (*network.frozen, *network.free_norms) if network.frozen else ()
    return any(name.startswith(layer + ".") for layer in kept)
