"""Local training of several clients at once: what `train_locally` does for each of them, on stacked networks.

Each client keeps its own weights, momentum, batches, levels, gradient norm, masks and random draws; they share nothing
but the kernels that compute them. A client that is done leaves the stack.
"""

import torch
import torch.nn.functional as F

from fedgate.device_runtime.formats.salience import SalienceRecord

from ..network.build import norm_levels, parameter_axes
from ..network.gates import FBS_PENALTY
from ..strategies.norms import is_statistic
from .adaptive import form_mask, mask_form
from .client import LocalResult, epoch_batches
from .stacked_forward import StackedForward
from .stacked_statistics import StackedLevelStatistics
from .step import Rates, norms_by_client, step
from .teacher import distilled


def train_together(network, examples, statistics, plans, teacher=None):
    """Train B clients from the network's present state, which is left as it is.

    examples: (images uint8 (n, C, H, W), labels int64 (n,)) of each client. statistics: (mean, std) of the data.
    teacher: a `Teacher` of all of them. Returns for each client (its network's tensors by name, on the CPU, and its
    `LocalResult`).
    """
    device = next(network.parameters()).device
    streams = [stream(*each, statistics, plan, device) for each, plan in zip(examples, plans, strict=True)]
    stack, members, results = Stack(network, plans, teacher), list(range(len(plans))), {}
    while members:
        batches = [next(streams[b], None) for b in members]
        staying = [row for row, batch in enumerate(batches) if batch is not None]
        if len(staying) < len(members):
            gone = [row for row in range(len(members)) if row not in staying]
            results |= {members[row]: stack.result(row) for row in gone}
            stack.keep(staying)
            members, batches = [members[row] for row in staying], [batches[row] for row in staying]
        if members:
            stack.step(batches)
    return [results[b] for b in range(len(plans))]


def stream(images, labels, statistics, plan, device):
    """All batches of a client, as `train_locally` draws them: (epoch, x, y, level)."""
    generator = torch.Generator().manual_seed(plan.seed)
    for epoch in range(plan.epochs):
        for batch in epoch_batches(images, labels, statistics, plan, generator, device):
            yield epoch, *batch


class Stack:
    """The state of B clients in training: dictionaries of tensors whose first dimension is the client.

    values: every tensor of the network's state. momenta: of the trained ones. sums: of the present epoch, by layer
    "opened/LAYER" and "strength/LAYER" (B, levels, C), and "samples" (B, levels), "loss", "correct" and "examples".
    touched: by layer, bool (B, C). steps and epochs: lists.
    """

    def __init__(self, network, plans, teacher=None):
        self.network, self.plans, self.plan = network, list(plans), plans[0]
        self.teacher = teacher if self.plan.distill else None
        network.train()
        network.set_densities(self.plan.densities)
        b, state = len(plans), network.body.state_dict()
        trained = {name for name, p in network.body.named_parameters() if p.requires_grad}
        self.values = {name: value.detach().expand(b, *value.shape).clone() for name, value in state.items()}
        self.momenta = {name: torch.zeros_like(self.values[name]) for name in trained if self.plan.momentum}
        self.trained = sorted(trained)
        sizes = {name: gate.out_channels for name, gate in network.gates.items()}
        axes = parameter_axes(network)
        self.forms = {name: mask_form(value.shape, axes[name], sizes) for name, value in state.items()}
        self.level_of = norm_levels(network)
        device, levels = next(iter(state.values())).device, len(network.densities)
        self.touched = {name: torch.zeros(b, c, dtype=torch.bool, device=device) for name, c in sizes.items()}
        self.sums = {key: torch.zeros(b, dtype=torch.float64, device=device) for key in ("loss", "correct", "examples")}
        self.sums["samples"] = torch.zeros(b, levels, dtype=torch.float64, device=device)
        for name, c in sizes.items():
            for kind in ("opened", "strength"):
                self.sums[f"{kind}/{name}"] = torch.zeros(b, levels, c, dtype=torch.float64, device=device)
        self.steps, self.epochs, self.levels = [0] * b, [0] * b, [()] * b
        self.forward = StackedForward(network)
        self.norms = StackedLevelStatistics(network, b, self.plan.adaptive_gradient)
        self.moving = [name for name in self.values if name in trained or (is_statistic(name) and levels == 1)]
        self.starts = [state[name].detach().clone() for name in self.trained]  # of every client

    def keep(self, rows):
        """Let the other clients go."""
        for tensors in (self.values, self.momenta, self.sums, self.touched):
            for name in tensors:
                tensors[name] = tensors[name][rows]
        self.norms.keep(rows)
        for name in ("plans", "steps", "epochs", "levels"):
            setattr(self, name, [getattr(self, name)[row] for row in rows])

    def step(self, batches):
        """One step of every client; batches: (epoch, x (n, C, H, W), y (n,), level) of each."""
        plan = self.plan
        epochs, xs, ys, levels = zip(*batches, strict=True)
        self.begin_epochs(epochs)
        sizes = [len(y) for y in ys]
        rows = max(2, *sizes)  # a stack of one row gives other gradients: clients then have a row of zeros behind
        x = torch.stack([pad(x, rows) for x in xs], 1).flatten(1, 2)
        y = torch.stack([pad(y, rows) for y in ys])
        x = x.contiguous(memory_format=torch.channels_last)
        for name in self.trained:
            self.values[name].requires_grad_()
        self.before(levels)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=plan.precision == "bf16"):
            highest, taught = self.teach(x, levels, sizes), self.ask_teacher(x, levels)
            logits = self.forward(x, self.values, levels, sizes).float()
            losses = self.losses(logits, y, highest, taught, levels)
        losses.sum().backward()
        with torch.no_grad():
            self.descend(epochs)
            self.count(levels, losses, logits, y)
        for name in self.trained:
            self.values[name].requires_grad_(False).grad = None

    def begin_epochs(self, epochs):
        for row, epoch in enumerate(epochs):
            if epoch != self.epochs[row]:
                for sums in self.sums.values():
                    sums[row] = 0
                self.norms.new_epoch(row)
            self.steps[row] += 1
        self.epochs = list(epochs)

    def below(self, levels):
        """For each client, whether it learns from what the highest level says."""
        top = len(self.plan.densities) - 1
        return [plan.level is None and level < top for plan, level in zip(self.plans, levels, strict=True)]

    @torch.no_grad()
    def teach(self, x, levels, sizes):
        """What the highest level says of each client's batch (see `client.teach`), or None where nobody asks."""
        if not any(self.below(levels)):
            return None
        top = [len(self.plan.densities) - 1] * len(levels)
        return self.forward(x, self.values, top, sizes, update_statistics=False).float()

    @torch.no_grad()
    def ask_teacher(self, x, levels):
        """What the teacher says of each client's batch, (B, N, classes); None where nobody asks."""
        if self.teacher is None or all(self.below(levels)):
            return None
        rows, clients = len(x), len(levels)
        images = x.view(rows, clients, -1, *x.shape[2:]).transpose(0, 1).flatten(0, 1)
        return self.teacher(images).view(clients, rows, -1)

    def losses(self, logits, y, highest, taught, levels):
        """Each client's objective, (B,); logits, highest, taught (B, N, classes), y (B, N)."""
        valid = self.forward.valid

        def cross_entropy(targets):
            each = F.cross_entropy(logits.flatten(0, 1), targets.flatten(0, 1), reduction="none")
            return each.view_as(valid)

        def mean(each):
            return torch.where(valid, each, 0).sum(1) / valid.sum(1)

        below = torch.tensor(self.below(levels), device=logits.device)
        own = cross_entropy(y)
        loss = mean(own)
        if taught is not None:
            each = distilled(own, logits, taught, self.plan.distill, self.plan.temperature)
            loss = torch.where(below, loss, mean(each))
        if highest is not None:
            loss = torch.where(below, 0.5 * loss + 0.5 * mean(cross_entropy(highest.softmax(2))), loss)
        if self.network.gate == "fbs":
            gates = [g for name, g in self.forward.g.items() if name not in self.network.frozen]
            loss = loss + FBS_PENALTY * sum(g.sum((1, 2)) for g in gates)
        return loss

    @torch.no_grad()
    def before(self, levels):
        """Note what the step may not move whole, and keep the statistics of that: they are put back behind it."""
        adaptive = self.plan.adaptive_gradient and bool(self.network.gates)
        self.others = {
            name: torch.tensor([level != own for level in levels])
            for name, own in self.level_of.items()
            if any(level != own for level in levels)
        }
        self.partly = [name for name in self.moving if name in self.others or (adaptive and any(self.forms[name]))]
        statistics = (name for name in self.partly if is_statistic(name))
        self.old = [(name, self.values[name], self.values[name].clone()) for name in statistics]

    def descend(self, epochs):
        """Take the step, and put back what the forward pass moved of the statistics."""
        plan, device = self.plan, next(iter(self.values.values())).device
        opened = {name: mask.any(1) for name, mask in self.forward.open.items()}
        for name, mask in opened.items():
            self.touched[name] |= mask
        mask = self.masks(opened, len(epochs), device)
        lr = torch.tensor([plan.lr * plan.lr_decay**epoch for epoch in epochs], device=device)
        rates = Rates(lr, plan.momentum, plan.weight_decay, plan.clip_norm)
        params = {name: self.values[name] for name in self.trained}
        grads = {name: value.grad for name, value in params.items()}
        terms = self.proximal_terms if plan.algorithm == "fedprox" else None
        after, self.momenta = step(params, grads, self.momenta, mask, rates, norms_by_client, terms)
        for name, value in params.items():
            value.copy_(after[name])
        for name, value, old in self.old:
            value.copy_(torch.where(mask[name], value, old))

    def proximal_terms(self, grads):
        """See `strategies.fedprox`."""
        pairs = zip(grads.items(), self.starts, strict=True)
        return {name: g + self.plan.proximal_mu * (self.values[name] - start) for (name, g), start in pairs}

    def masks(self, opened, count, device):
        """By name the entries (B, ...) that the step moves, of the tensors that it may not move whole."""
        found, shared = {}, {}
        for name in self.partly:
            form, own = self.forms[name] if self.plan.adaptive_gradient else (), self.level_of.get(name)
            if (form, own) not in shared:
                mask = form_mask(form, opened) if any(form) else torch.ones(count, dtype=torch.bool, device=device)
                if name in self.others:
                    mask = mask & of_client(~self.others[name].to(device), mask)
                shared[form, own] = mask
            mask = shared[form, own]
            found[name] = mask.view(mask.shape + (1,) * (self.values[name].ndim - mask.ndim))
        return found

    def count(self, levels, losses, logits, y):
        """Add a step to the epoch's sums."""
        valid = self.forward.valid
        rows = torch.arange(len(levels), device=y.device), torch.tensor(levels, device=y.device)
        examples = valid.sum(1)
        self.levels = [tuple(sorted({*seen, level})) for seen, level in zip(self.levels, levels, strict=True)]
        self.sums["loss"] += losses * examples
        self.sums["correct"] += ((logits.argmax(2) == y) & valid).sum(1)
        self.sums["examples"] += examples
        self.norms.add(self.forward, *rows)
        if self.network.gates:
            self.sums["samples"][rows] += examples
        for name, mask in self.forward.open.items():
            self.sums[f"opened/{name}"][rows] += mask.sum(1)
            self.sums[f"strength/{name}"][rows] += self.forward.pi[name].sum(1, dtype=torch.float64)

    def result(self, row):
        """(tensors, `LocalResult`) of a client."""
        sums = {key: value[row].cpu().numpy() for key, value in self.sums.items()}
        layers = self.touched.keys()
        self.norms.settle(row, self.values)
        record = SalienceRecord(
            {name: sums[f"opened/{name}"].astype("i8") for name in layers},
            {name: sums[f"strength/{name}"] for name in layers},
            sums["samples"].astype("i8"),
        )
        tensors = {name: value[row].detach().cpu().contiguous().numpy().copy() for name, value in self.values.items()}
        touched = {name: mask[row].cpu().numpy() for name, mask in self.touched.items()}
        loss, accuracy = float(sums["loss"] / sums["examples"]), float(sums["correct"] / sums["examples"])
        return tensors, LocalResult(record, loss, accuracy, self.steps[row], touched, self.levels[row])


def pad(x, n):
    """Zeros behind the rows of x, up to n of them."""
    return F.pad(x, (0, 0) * (x.ndim - 1) + (0, n - len(x))) if len(x) < n else x


def of_client(each, like):
    """each (B,) in a shape that broadcasts to `like` (B, ...)."""
    return each.view(-1, *(1,) * (like.ndim - 1))
