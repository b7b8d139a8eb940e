"""Whether a network returns what a run can train on."""

import torch

from fedgate.device_runtime.errors import UsageError


@torch.no_grad()
def check_logits(network, model, classes):
    """Refuse a network that returns something else than logits, float (N, classes), in evaluation or in training."""
    training = network.training
    network.eval()
    with torch.random.fork_rng(devices=[]):
        images, found = torch.zeros(2, *network.shape), {}
        try:
            found[""] = network.body(images)
            if network.training_forward is not None:
                found[" in training"] = network.training_forward(network.body, images)
        except Exception as error:  # whatever a user's network does with it
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UsageError(f"'{model}' does not take two images at a time: {reason}") from error
    network.forget()
    network.train(training)
    for when, logits in found.items():
        wanted = f"not logits alone: floats of shape (N, {classes})"
        if not isinstance(logits, torch.Tensor):
            raise UsageError(f"'{model}' returns a {type(logits).__name__}{when}, {wanted}")
        if logits.dim() == 2 and len(logits) == 2 and logits.shape[1] != classes:
            raise UsageError(f"'{model}' returns {logits.shape[1]} classes{when}, and the data have {classes}")
        if tuple(logits.shape) != (2, classes):
            shape = ", ".join(map(str, ("N", *logits.shape[1:]) if logits.shape[:1] == (2,) else logits.shape))
            raise UsageError(f"'{model}' returns a tensor of shape ({shape}){when}, {wanted}")
        if not logits.is_floating_point():
            raise UsageError(f"'{model}' returns {str(logits.dtype).removeprefix('torch.')}{when}, {wanted}")
