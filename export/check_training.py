"""The comparison of a program that trains with steps of local training in eager PyTorch.

Each step is compared on its own, from the state that the program is in. Its masks, example by example, are judged by
the rule of equal masks as those of inference are (see `check`); the step is then compared with the same step of eager
PyTorch in float64, forced to the program's masks.

A gradient is not continuous: a ReLU whose input is nearly 0 lets it pass or not, and float32 may take it otherwise. So
a tensor may differ by as much as eager PyTorch comes away from itself with parameters that are a few roundings apart.
A step that this leaves too vague is not compared, and at least one must be at each level.
"""

import copy
from typing import NamedTuple

import numpy as np
import torch

from fedgate.device_runtime.formats.macs import mask_width
from fedgate.device_runtime.formats.ports import HYPERPARAMETERS, MOMENTUM, TRUNK_OPEN
from fedgate.device_runtime.verify import TOLERANCE, relative_error
from fedgate.train.data.augment import normalise
from fedgate.train.local.client import LocalPlan, LocalSteps
from fedgate.train.network.build import load_tensors, network_tensors

from .check import Comparison, count_close_calls, mismatch, not_compared
from .train_step import trained_parameters

OPTIONS = {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4, "clip_norm": 1.0}
# (examples at most, options): few examples leave channels closed, whose momentum the first step has set in motion
STEPS = (
    (15, OPTIONS),
    (1, {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.05, "clip_norm": 0.1}),
    (4, {"lr": 0.02, "momentum": 0.8, "weight_decay": 0.01, "clip_norm": 0.0}),
)
ROUNDINGS, ROUNDING = 3, 4e-6  # how often, and how far, eager PyTorch is moved to see what float32 may make of a step
VAGUE = 0.02  # of a tensor's largest value: from here on a difference says nothing


class Step(NamedTuple):
    """What a step of eager PyTorch gives. outputs: by the names of a program's. gates, open: the tail's, (n, channels).

    correct: how many examples are right. sure: bool (n,), of which it is plain whether they are.
    """

    outputs: dict
    gates: np.ndarray
    open: np.ndarray
    correct: int
    sure: np.ndarray


def compare_training(part, load, images, labels, statistics) -> Comparison:
    """Compare `STEPS` of a program that trains, at every level. Raises `FedgateError` at a mismatch.

    load: () -> the program with the parameters of the start, loaded.
    images: uint8 (n, C, H, W); labels: int64 (n,); statistics: (mean, std) of the data. Each step has other examples
    of these, in other rows of the batch, and the remaining rows are padding.
    """
    result, network = Comparison(), part.network
    for level in range(len(network.densities)):
        loaded, before = load(), result.runs
        state = start(part)
        for index, (count, options) in enumerate(STEPS if len(images) else ()):
            where = f"step {index} at density {network.densities[level]:g}"
            chosen, rows = draw(min(count, len(images)), len(images), part.batch_size, index)
            examples = normalise(images[chosen], *statistics), labels[chosen]
            batch = batch_of(part, *examples, level, rows, options)
            state = compare_step(part, loaded, state, examples, batch, rows, where, result)
        if result.runs == before:
            raise not_compared(loaded.program, f"no step at density {network.densities[level]:g}")
    return result.finished(loaded.program)


def start(part):
    """The state in which training begins, by name: the parameters, and momenta of zeros."""
    state = {name: p.numpy().copy() for name, p in trained_parameters(part.network).items()}
    return state | {MOMENTUM + name: np.zeros_like(value) for name, value in state.items()}


def draw(count, examples, size, seed):
    """`count` of the examples, or a batch less one if that is fewer, and their rows in the batch: two index arrays."""
    random, n = np.random.default_rng(seed), min(count, max(1, size - 1))
    return random.permutation(examples)[:n], np.sort(random.permutation(size)[:n])


def compare_step(part, loaded, state, examples, batch, rows, where, result):
    """Compare one step of a loaded program, and return the state after it; `result` counts it.

    batch: of `batch_of`, with the examples in `rows`.
    """
    file = loaded.program
    (_, layers), density = part.info.split(part.network.layers), part.network.densities[batch["level"][0]]
    masks = masks_of(loaded, state | batch, rows, mask_width(layers))
    if not np.isin(masks, (0, 1)).all():
        raise mismatch(file, f"{where}: an example alone opens a channel neither once nor never")
    eager, *others = (eager_step(part, state, examples, batch, rows, masks, seed) for seed in range(1 + ROUNDINGS))
    for row, mine, gates in zip(rows, masks.astype(np.uint8), eager.gates, strict=True):
        result.close_calls += count_close_calls(file, mine, gates, layers, density, f"{where}, row {row}")
    result.decisions += masks.size
    found = loaded.call(state | batch)
    if not np.array_equal(found.get("opened", masks.sum(0)), masks.sum(0)):
        raise mismatch(file, f"{where}: the batch opens other channels than its examples do alone")
    if np.array_equal(eager.open, masks != 0):  # eager cannot be forced to open a channel whose g is not above 0
        room = {
            name: 4 * max(scaled_error(name, o.outputs[name], eager.outputs[name]) for o in others)
            for name in eager.outputs
        }
        compare_results(file, found, state, eager, room, where, result)
    return {name: found[name] for name in state}


def compare_results(file, found, state, eager, room, where, result):
    """Compare what a step returned with eager's. room: by name, how far float32 may come from it; `VAGUE` is any."""
    if abs(float(found["correct"][0]) - eager.correct) > np.count_nonzero(~eager.sure):
        raise mismatch(file, f"{where}: {found['correct'][0]:g} examples are right, not {eager.correct}")
    for name, expected in eager.outputs.items():
        if room[name] > VAGUE:
            continue
        error = scaled_error(name, found[name], expected)
        if not error <= max(file.tolerance, room[name]):
            raise mismatch(file, f"{where}: '{name}' differs by {error:.2g} of its largest")
        if name in state:
            result.max_error = max(result.max_error, error)
        if MOMENTUM + name not in state:
            continue
        # A step is small beside its parameter, which rounds it.
        step, right = (value - state[name].astype(np.float64) for value in (found[name], expected))
        rounding = np.finfo(np.float32).eps * np.abs(state[name]).max() / (np.abs(right).max() or 1.0)
        error = relative_error(step, right)
        if not error <= max(file.tolerance, room[MOMENTUM + name]) + 2 * rounding:
            raise mismatch(file, f"{where}: the step of '{name}' differs by {error:.2g} of its largest")
    result.runs += max(room.values()) <= VAGUE


def scaled_error(name, found, expected):
    """The largest difference over the largest value; a loss counts as 1 at least, as it is the end of sums around 1."""
    return (
        float(abs(found - expected).max() / max(1.0, abs(expected[0])))
        if name == "loss"
        else relative_error(found, expected)
    )


def masks_of(loaded, values, rows, width):
    """Which of the tail's channels each example opens in a loaded program: float32 (n, width).

    By a run for each example with its weight alone; learning rate 0 leaves a program's own parameters as they are.
    """
    masks = np.zeros((len(rows), width), np.float32)
    for i, row in enumerate(rows if width else ()):
        weights = np.zeros_like(values["weights"])
        weights[row] = 1
        masks[i] = loaded.call(values | {"weights": weights, "lr": np.zeros(1, np.float32)})["opened"]
    return masks


@torch.no_grad()
def batch_of(part, x, labels, level, rows=None, options=OPTIONS):
    """The inputs of a train program, but for its state, for normalised images x float32 (n, C, H, W) in some rows.

    Features are as eager PyTorch computes them in float64. Other rows hold what must not count.
    """
    trunk, size = copy.deepcopy(part.trunk).double(), part.batch_size
    rows = np.arange(len(x)) if rows is None else rows
    trunk.level = level
    features = trunk(x.double()).float().numpy()
    opened = trunk.open().numpy() if trunk.gates else np.zeros((len(x), 0), bool)
    values = {name: np.array([value], np.float32) for name, value in options.items()}
    values["features"] = in_rows(features, rows, size, 7.0)
    values[TRUNK_OPEN] = in_rows(opened.astype(np.uint8), rows, size, 1)
    values["labels"] = in_rows(labels.numpy().astype(np.int32), rows, size, 0)
    values["weights"] = in_rows(np.ones(len(x), np.float32), rows, size, 0)
    values["level"] = np.array([level], np.int32)
    return values


def in_rows(array, rows, size, fill):
    """An array (n, ...) spread over the `rows` of one (size, ...) that holds `fill` elsewhere."""
    whole = np.full((size, *array.shape[1:]), fill, array.dtype)
    whole[rows] = array
    return whole


def eager_step(part, state, examples, batch, rows, masks, seed=0):
    """A `Step` by local training in float64, forced to the tail's masks and, as in `batch`, to the trunk's.

    seed: 0, or of a draw that moves every parameter by a few roundings.
    """
    network, (x, labels), level = copy.deepcopy(part.network).double(), examples, int(batch["level"][0])
    opened = np.concatenate([batch[TRUNK_OPEN][rows], masks], 1) != 0
    ends = np.cumsum([gate.out_channels for gate in network.gates.values()])
    for gate, end in zip(network.gates.values(), ends, strict=True):
        gate.forced = None if gate.kind == "scale" else torch.from_numpy(opened[:, end - gate.out_channels : end])
    numbers = {name: float(batch[name][0]) for name in HYPERPARAMETERS}
    plan = LocalPlan(
        network.densities, 1, len(x), seed=0, level=level, adaptive_gradient=part.adaptive, sliced=False, **numbers
    )
    names, random = list(trained_parameters(network)), np.random.default_rng(seed)
    moved = {n: ROUNDING * random.standard_normal(state[n].shape) * state[n] if seed else 0 for n in names}
    load_tensors(network, {n: state[n] + moved[n] for n in names}, partly=True)
    steps = LocalSteps(network, plan)
    steps.momenta = {name: torch.from_numpy(state[MOMENTUM + name]).double() for name in names}
    loss, logits = steps.step(x.double(), labels, level)
    tensors = network_tensors(network)
    outputs = {name: tensors[name] - moved[name] for name in names}
    outputs |= {MOMENTUM + n: steps.momenta[n].numpy() for n in names}
    return told(part, network, outputs, loss, logits, labels)


def told(part, network, outputs, loss, logits, labels):
    """The `Step` of tensors, and of what the forward pass left in a network."""
    own = logits.gather(1, labels[:, None])
    ahead = (own - logits.scatter(1, labels[:, None], -torch.inf).amax(1, True))[:, 0]
    sure = (ahead.abs() > TOLERANCE * logits.abs().amax(1)).numpy()
    outputs, g, opened = outputs | {"loss": loss.reshape(1).numpy()}, *(np.zeros((len(labels), 0)) for _ in range(2))
    gates = [gate for name, gate in network.gates.items() if name in part.cut.layers]
    if gates:
        g, opened, pi = (
            torch.cat([getattr(each, f).detach() for each in gates], 1).numpy() for f in ("g", "open", "pi")
        )
        outputs["strength"] = pi.sum(0)
    return Step(outputs, g, opened, int((ahead > 0).sum()), sure)
