"""The adaptive gradient: a step leaves alone whatever belongs to a channel that no sample of its batch opened.

Such a channel gets no gradient, but momentum, weight decay and the norms' running statistics would move it all the
same ("Adaptive Gradient" of S. Yu, P. Nguyen, A. Anwar, A. Jannesari, "Heterogeneous Federated Learning using Dynamic
Model Pruning and Adaptive Gradient", CCGrid 2023). An entry of a tensor that two layers' channels index moves only in
batches that opened both. A step leaves them alone (`local_step`); what a forward pass did to statistics is put back.
"""

import torch

from ..network.build import norm_levels, parameter_axes


class Moves:
    """Which entries of a network's tensors a local training moves, batch by batch.

    touched: by gated layer, the channels that any batch opened so far; bool (C,).
    adaptive: whether entries of closed channels stay; else each batch moves everything that has a gradient.
    counted: whether `distance` will be asked for.
    """

    def __init__(self, network, momentum, adaptive=True, counted=False):
        self.network, self.momentum, self.adaptive = network, momentum, adaptive and bool(network.gates)
        self.counted = counted
        parameters = dict(network.body.named_parameters())
        device = next(iter(parameters.values())).device
        sizes = {name: gate.out_channels for name, gate in network.gates.items()}
        self.touched = {name: torch.zeros(c, dtype=torch.bool, device=device) for name, c in sizes.items()}
        self.travel = {}  # (level or None, form) -> (momentum, distance), see `distance`
        self.places = {}  # tensor name -> (its level or None, its form)
        self.trained = [{} for _ in network.densities]  # by level: form -> names of parameters
        self.statistics = [{} for _ in network.densities]  # by level: form -> [(tensor, room for what it was)]
        level_of = norm_levels(network)
        axes = parameter_axes(network)
        for name, tensor in network.body.state_dict().items():
            level = level_of.get(name)
            form = mask_form(tensor.shape, axes[name], sizes) if self.adaptive else ()
            self.places[name] = (level, form)
            parameter = parameters.get(name)
            if not any(form) or (parameter is not None and not parameter.requires_grad):
                continue
            for each in range(len(self.trained)) if level is None else [level]:
                if parameter is not None:
                    self.trained[each].setdefault(form, []).append(name)
                else:
                    self.statistics[each].setdefault(form, []).append((tensor, torch.empty_like(tensor)))

    @torch.no_grad()
    def before(self):
        """To be called before a batch's forward pass, which moves the running statistics; the level is set."""
        for pairs in self.statistics[self.network.level].values():
            for tensor, old in pairs:
                old.copy_(tensor)

    @torch.no_grad()
    def after(self, lr):
        """To be called after a batch's passes: puts statistics back; lr is that of the step, whose mask it returns."""
        level, mask = self.network.level, {}
        opened = {name: gate.open.any(0) for name, gate in self.network.gates.items()}
        for name, opens in opened.items():
            self.touched[name] |= opens
        whole = {name for name, opens in opened.items() if opens.all()}
        if self.counted:
            self._count(level, (), 1, lr)
        for form in self.trained[level].keys() | self.statistics[level].keys():
            moved = all(axis is None or axis[0] in whole for axis in form)
            if moved and not self.counted:
                continue
            entries = form_mask(form, opened)
            if self.counted:
                self._count(level, form, entries.double(), lr)
            if not moved:
                mask |= dict.fromkeys(self.trained[level].get(form, ()), entries)
                for tensor, old in self.statistics[level].get(form, ()):
                    torch.where(entries, tensor, old, out=tensor)
        return mask

    def _count(self, level, form, moved, lr):
        for key in ((level, form), (None, form)):  # the tensors of this level, and those of every level
            momentum, distance = self.travel.get(key, (0.0, 0.0))
            momentum = momentum + moved * ((self.momentum - 1) * momentum + 1)
            self.travel[key] = momentum, distance + lr * moved * momentum

    def distance(self, name):
        """How far a gradient that is always -1 would have moved each entry of a tensor by now.

        A number, or float64 in a shape that broadcasts to the tensor's; 0 where nothing moved. lr times the number of
        batches that moved an entry, without momentum and with one learning rate.
        """
        level, form = self.places[name]
        return self.travel.get((level, form if any(form) else ()), (0.0, 0.0))[1]


def mask_form(shape, axes, sizes):
    """How a tensor's mask follows from layers' masks: for each dimension (layer, entries a channel), or None."""
    return tuple(None if a is None else (a, d // sizes[a]) for d, a in zip(shape, axes, strict=True))


def form_mask(form, opened):
    """The entries between open channels, in a shape that broadcasts to the tensor's; opened: bool (C,) by layer.

    For tensors of several clients, (B, *shape), opened is (B, C).
    """
    some = next(iter(opened.values()))
    mask = torch.ones((), dtype=torch.bool, device=some.device)
    for i, axis in enumerate(form):
        if axis is not None:
            layer, each = axis
            shape = [-1 if i == j else 1 for j in range(len(form))]
            entries = opened[layer] if each == 1 else opened[layer].repeat_interleave(each, -1)
            mask = mask & entries.view(*some.shape[:-1], *shape)
    return mask
