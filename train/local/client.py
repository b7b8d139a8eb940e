"""A client's share of a round: local SGD from the server's tensors on the client's own examples."""

from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F

from fedgate.device_runtime.formats.salience import SalienceRecord

from ..config import TrainConfig
from ..data.augment import augment, normalise
from ..network.salience import SalienceCollector
from ..strategies.local import LocalTerms
from .adaptive import Moves
from .level_statistics import LevelStatistics
from .sliced import SlicedForward
from .step import Rates, step
from .teacher import distilled


@dataclass(frozen=True)
class LocalPlan:
    """What the server asks of its clients in a round.

    densities: those of this round, one a level. level: the one that the client trains; None draws one a batch.
    lr: of the first local epoch; each later one has `lr_decay` times that of the one before.
    adaptive_gradient: closed channels do not move (see `adaptive`), nor then are they computed where `sliced`.
    algorithm: as of --algorithm. upload_share, codec: of the upload (see `wire`); a share of None sends
    every channel. distill, temperature: of the teacher (see `teacher`), where the client has one.
    """

    densities: tuple[float, ...]
    epochs: int
    batch_size: int
    lr: float
    seed: int
    momentum: float = TrainConfig.momentum
    weight_decay: float = TrainConfig.weight_decay
    clip_norm: float = TrainConfig.clip_norm
    augment: str = "none"
    precision: str = "fp32"
    lr_decay: float = 1.0
    level: int | None = None
    adaptive_gradient: bool = True
    algorithm: str = "fedavg"
    proximal_mu: float = 0.0
    upload_share: float | None = None
    codec: str = "fp32"
    sliced: bool = True
    distill: float = 0.0
    temperature: float = 1.0


@dataclass(frozen=True)
class LocalResult:
    """loss and accuracy: means over the examples of the last local epoch, as they were trained on.

    touched: by gated layer, the channels that any batch opened; bool (C,). levels: those that any batch had. control:
    SCAFFOLD's change of the client's control variate, by parameter; nothing for other algorithms.
    """

    salience: SalienceRecord
    loss: float
    accuracy: float
    steps: int
    touched: dict[str, np.ndarray]
    levels: tuple[int, ...]
    control: dict[str, np.ndarray] = field(default_factory=dict)


def resolve_precision(name, device):
    """ "auto" is bf16 where the hardware multiplies it, else fp32: emulated bf16 is many times slower than fp32."""
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if torch.ops.mkldnn._is_mkldnn_bf16_supported() and has_fast_bf16() else "fp32"


def has_fast_bf16():
    """Whether this CPU has bfloat16 dot products (AVX-512 BF16, AMX; on ARM the library's own check decides)."""
    capabilities = torch.cpu.get_capabilities()
    if capabilities.get("architecture") == "x86_64":
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return True


def batches(count, size, generator):
    """A random order of `count` examples cut into even batches of at most `size`: int64 index tensors.

    Even ones, since a last batch of one example has no variance for a batch norm.
    """
    order = torch.randperm(count, generator=generator)
    return torch.tensor_split(order, -(-count // size))


def client_seed(seed, round_index, client):
    """An independent seed for each round and client, the same whoever asks, so that nothing random needs saving."""
    return int(np.random.SeedSequence([seed, round_index, client]).generate_state(1, np.uint64)[0] >> 1)


def train_locally(
    network, images, labels, statistics, plan: LocalPlan, control=None, state=None, teacher=None
) -> LocalResult:
    """Train `network` in place on one client's examples.

    images: uint8 (n, C, H, W); labels: int64 (n,); statistics: (mean, std) of the data, C floats each.
    control, state: for SCAFFOLD the variates of the server and of the client (see `LocalTerms`). teacher: a `Teacher`.
    Where each batch draws its level, the highest learns from the labels, the others from the labels and from what the
    highest says of the same batch (J. Yu and T. Huang, "Universally Slimmable Networks", ICCV 2019, 3.3); a client
    that trains one level learns from the labels alone, as it may not be able to run the highest. A teacher speaks to
    the highest level, or to a client's only one.
    """
    device = next(network.parameters()).device
    # Dropout, where a network has any. torch.manual_seed turns to every kind of device there is: milliseconds.
    (torch.default_generator if device.type == "cpu" else torch).manual_seed(plan.seed)
    generator = torch.Generator().manual_seed(plan.seed)
    steps, count, seen = LocalSteps(network, plan, control, state, teacher), 0, set()
    for epoch in range(plan.epochs):
        collector, loss_sum, correct = SalienceCollector(network), 0.0, 0
        steps.new_epoch(epoch)
        for x, y, level in epoch_batches(images, labels, statistics, plan, generator, device):
            seen.add(level)
            loss, logits = steps.step(x, y, level)
            collector.add()
            loss_sum += loss * len(y)
            correct += (logits.argmax(1) == y).sum()
            count += 1
    steps.levels.finish()
    examples = max(1, len(labels))
    touched = {name: mask.cpu().numpy() for name, mask in steps.moves.touched.items()}
    loss, accuracy = float(loss_sum) / examples, float(correct) / examples
    control = steps.terms.control_changes(steps.moves.distance)
    return LocalResult(collector.record(), loss, accuracy, count, touched, tuple(sorted(seen)), control)


class LocalSteps:
    """The steps of SGD of a local training, on batches of any origin; network, plan and the others: its own.

    momenta: by name, those of the parameters that have moved.
    """

    def __init__(self, network, plan: LocalPlan, control=None, state=None, teacher=None):
        self.network, self.plan, self.device = network, plan, next(network.parameters()).device
        self.teacher = teacher if plan.distill else None
        network.train()
        network.zero_grad()
        network.set_densities(plan.densities)
        self.parameters = {name: p for name, p in network.body.named_parameters() if p.requires_grad}
        self.momenta = {name: torch.zeros_like(p) for name, p in self.parameters.items()} if plan.momentum else {}
        self.moves = Moves(network, plan.momentum, plan.adaptive_gradient, counted=plan.algorithm == "scaffold")
        self.levels = LevelStatistics(network, plan.adaptive_gradient)
        sliced = plan.sliced and plan.adaptive_gradient and bool(network.gates) and self.device.type == "cpu"
        self.forward = SlicedForward(network) if sliced else network
        self.terms = LocalTerms(network, plan, control or {}, state or {})
        self.rates = Rates(plan.lr, plan.momentum, plan.weight_decay, plan.clip_norm)

    def new_epoch(self, epoch):
        self.rates = self.rates._replace(lr=self.plan.lr * self.plan.lr_decay**epoch)
        self.levels.new_epoch()

    def step(self, x, y, level):
        """One step on a batch, x (N, C, H, W) and y int64 (N,), at a level: (loss, logits (N, classes)), detached."""
        network, plan, top = self.network, self.plan, len(self.plan.densities) - 1
        network.level = level
        self.moves.before()
        self.levels.before(len(y))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=plan.precision == "bf16"):
            highest = None if level == top or plan.level is not None else teach(network, x, top, self.forward)
            taught = self.teacher(x) if self.teacher and highest is None else None
            logits = self.forward(x)
            loss = objective(network, logits, y, plan, highest, taught)
        self.levels.add(len(y))
        loss.backward()
        self.descend(self.moves.after(self.rates.lr))
        return loss.detach(), logits.detach()

    @torch.no_grad()
    def descend(self, mask):
        """Move the parameters whose gradients are there."""
        parameters = self.parameters

        def added(grads):  # like weight decay, it is not what clipping is for
            for name, gradient in grads.items():
                parameters[name].grad = gradient
            self.terms.add()
            return {name: parameters[name].grad for name in grads}

        grads = {name: p.grad for name, p in parameters.items() if p.grad is not None}
        after, self.momenta = step(parameters, grads, self.momenta, mask, self.rates, terms=added)
        for name in grads:
            parameters[name].copy_(after[name])
            parameters[name].grad = None


def epoch_batches(images, labels, statistics, plan, generator, device):
    """An epoch's batches, in the order that `generator` draws: (x float32 (N, C, H, W), y int64 (N,), level)."""
    for chosen in batches(len(labels), plan.batch_size, generator):
        x = augment(images[chosen].to(device), plan.augment, generator)
        x = normalise(x, *statistics).contiguous(memory_format=torch.channels_last)
        yield x, labels[chosen].to(device), draw_level(plan, generator)


def draw_level(plan, generator):
    """The level of a batch."""
    if plan.level is not None:
        return plan.level
    levels = len(plan.densities)
    return int(torch.randint(levels, (), generator=generator)) if levels > 1 else 0


@torch.no_grad()
def teach(network, x, top, forward=None):
    """The highest level's logits for a batch by `forward` (the network's own), the running statistics left alone.

    Its norms use the batch's statistics: the running ones are far off in the first steps, and overflow deep networks.
    """
    norms = [unit.norms[top] for unit in network.units.values() if len(unit.norms)]
    momenta = [norm.momentum for norm in norms]
    level, network.level = network.level, top
    for norm in norms:
        norm.momentum = 0.0
    logits = (forward or network)(x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.level = level
    return logits


def objective(network, logits, labels, plan, highest=None, taught=None):
    """Cross-entropy, half of it distilled from the highest level's logits (N, classes), or some from the teacher's."""
    if taught is not None:
        each = F.cross_entropy(logits.float(), labels, reduction="none")
        loss = distilled(each, logits, taught, plan.distill, plan.temperature).mean()
    else:
        loss = F.cross_entropy(logits.float(), labels)
    if highest is not None:
        targets = highest.float().softmax(1)
        loss = 0.5 * loss + 0.5 * F.cross_entropy(logits.float(), targets)
    return loss + network.penalty()
