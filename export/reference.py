"""What programs are compared with: the network in eager PyTorch, in float64, free to choose its masks or forced."""

import copy

import numpy as np
import torch

from fedgate.device_runtime.formats.macs import mask_slices
from fedgate.device_runtime.formats.records import LABELLED

LABELLED_IMAGES = 64  # at most, and of one class at most an eighth of it


class EagerReference:
    """A gated network as `train` runs it, in float64.

    Calls take images float32 (n, C, H, W) and return numpy arrays. `k` of each level is that of the final densities.
    """

    def __init__(self, network):
        network.forget()
        self.network = copy.deepcopy(network).double().eval()
        self.network.set_densities(network.densities)
        self.columns = mask_slices(network.layers)

    @torch.no_grad()
    def run(self, images, level, forced=None):
        """(logits (n, classes), open bool (n, sum of C_out), gate values (n, sum of C_out)) at a level.

        forced: masks (n or 1, sum of C_out) that replace the network's own choice.
        """
        self.network.level = level
        for name, gate in self.network.gates.items():
            columns = self.columns[name]
            gate.forced = None if forced is None else torch.as_tensor(np.ascontiguousarray(forced[:, columns]) != 0)
        logits = self.network(torch.as_tensor(images).double()).numpy()
        gates = self.network.gates.values()
        if not gates:
            return logits, np.zeros((len(images), 0), bool), np.zeros((len(images), 0))
        values = torch.cat([gate.g for gate in gates], 1).numpy()
        return logits, self.network.open().numpy(), values

    @torch.no_grad()
    def dense(self, images):
        """Logits (n, classes) without gates, with the norms of the highest level."""
        network = copy.deepcopy(self.network)
        network.level = len(network.densities) - 1
        for unit in network.units.values():
            unit.gate = None
        return network(torch.as_tensor(images).double()).numpy()


def fixed_masks(layers, kept):
    """The masks that keep the channels `kept` of each gated layer for every input: bool (1, sum of C_out)."""
    columns = mask_slices(layers)
    masks = np.zeros((1, sum(s.stop - s.start for s in columns.values())), bool)
    for name, channels in kept.items():
        masks[0, columns[name].start + np.asarray(channels)] = True
    return masks


def kept_by_record(network, record, level):
    """The channels that a static network keeps at a level: per gated layer the k most opened ones of a record."""
    kept = {}
    for name, gate in network.gates.items():
        k = gate.out_channels if gate.kind == "scale" else gate.k[level]
        kept[name] = record.kept_channels(name, level, k)
    return kept


def reference_outputs(network, dense, kept_by_level, images):
    """What programs must return on images float32 (n, C, H, W), as arrays of a bundle's reference file.

    dense, kept_by_level: of `programs.plan_programs`.
    """
    reference, outputs = EagerReference(network), {"dense/logits": EagerReference(dense).dense(images)}
    if network.gates:
        for level in range(len(network.densities)):
            logits, opened, gates = reference.run(images, level)
            outputs[f"masked/{level}/logits"] = logits
            outputs[f"masked/{level}/open"] = opened.astype(np.uint8)
            outputs[f"masked/{level}/gate"] = gates
        for level, kept in kept_by_level.items():
            masks = fixed_masks(network.layers, kept)
            outputs[f"static/{level}/logits"] = reference.run(images, level, forced=masks)[0]
    return {name: value if value.dtype == np.uint8 else value.astype(np.float32) for name, value in outputs.items()}


def labelled(data):
    """Test images with their labels, for a bundle that trains: of each class the same number, or all."""
    labels = data.test_labels.numpy()
    each = max(1, min(LABELLED_IMAGES // len(data.labels), LABELLED_IMAGES // 8))
    own = [np.flatnonzero(labels == one)[:each] for one in range(len(data.labels))]
    chosen = np.concatenate(own)[:LABELLED_IMAGES]
    return dict(zip(LABELLED, (data.test_images.numpy()[chosen], labels[chosen]), strict=True))
