"""The programs of a bundle that trains: a trunk, a tail, and steps of the tail's local training."""

import functools

from fedgate.device_runtime.engines import load_program, open_program
from fedgate.device_runtime.formats.ports import Port, role_ports
from fedgate.device_runtime.tuning.model import TailModel

from .check import compare_network
from .check_training import compare_training
from .eval_networks import dense_network, masked_network
from .lowering import LOWERINGS, lower_function
from .plan import Plan
from .programs import image_plan
from .skip import kernel_layers, skip_network
from .train_step import STEP, TailInference, TrainStep, reads_trunk_masks, traced, trained_parameters
from .trainable import TRAINING_RUNTIMES, Trainable
from .training_module import training_module

TRAINED_IMAGES = 64  # from which the steps that are compared draw theirs


def plan_tail_programs(part: Trainable, images, data):
    """Trunk (also one that skips channels, where it can), tail, train and train-module.

    images: float32 (n, C, H, W), on which trunk and tail are compared; data: the run's, on which training is.
    """
    return [*trunk_plans(part, images), tail_plan(part, images), train_plan(part, data), module_plan(part, data)]


def trunk_plans(part, images):
    trunk = part.trunk

    def compare(bundle, program):
        return compare_network(open_program(bundle, program), trunk, images)

    if part.network.gate == "none":
        return [image_plan("trunk", dense_network(trunk), part.interface, compare)]
    skip = skip_network(trunk)
    bodies = [masked_network(trunk), *([skip] if kernel_layers(skip) else [])]
    return [image_plan("trunk", body, part.interface, compare) for body in bodies]


def tail_plan(part, images):
    def compare(bundle, program):
        (trunk,) = (
            each
            for each in bundle.manifest.programs
            if (each.runtime, each.role, each.needs_kernel) == (program.runtime, "trunk", False)
        )
        loaded = load_program(bundle, trunk), load_program(bundle, program)
        parameters = {name: value.numpy() for name, value in trained_parameters(part.network).items()}
        return compare_network(TailModel(*loaded, parameters, bundle.manifest), part.network, images)

    inputs, outputs = part_ports(part, "tail")
    return function_plan("tail", inputs, outputs, TailInference(part.network, part.cut), compare)


def train_plan(part, data=None):
    inputs, outputs = part_ports(part, "train")
    return function_plan("train", inputs, outputs, step_of(part), training(part, data))


def module_plan(part, data=None):
    """The same step for ExecuTorch's training module, whose parameters are in the program."""
    inputs, outputs = part_ports(part, "train-module")
    own = own_ports(part)
    steps = tuple(Port(STEP + port.name, port.shape) for port in own)

    def lowered(_):
        graph, examples = traced(step_of(part), (*own, *inputs), (*outputs, *steps))
        return training_module(graph, examples, trained_parameters(part.network))

    return Plan("train-module", inputs, outputs, lowered, training(part, data), runtimes=("executorch",))


def training(part, data):
    """How a program that trains is compared."""

    def compare(bundle, program):
        examples = data.train_images[:TRAINED_IMAGES], data.train_labels[:TRAINED_IMAGES]
        load = functools.partial(load_program, bundle, program)
        return compare_training(part, load, *examples, (data.mean, data.std))

    return compare


def step_of(part):
    return TrainStep(part.network, part.cut, part.adaptive)


def own_ports(part):
    """The parameters that a tail's programs take."""
    return tuple(Port(name, tuple(p.shape)) for name, p in trained_parameters(part.network).items())


def part_ports(part, role):
    return role_ports(role, part.interface, own_ports(part), reads_trunk_masks(part.network, part.cut))


def function_plan(role, inputs, outputs, function, compare):
    """The `Plan` of a function of named arrays, none of them an image."""
    graph, examples = traced(function, inputs, outputs)

    def lowered(runtime):
        return {LOWERINGS[runtime][0]: lower_function(graph, runtime, examples)}

    return Plan(role, inputs, outputs, lowered, compare, runtimes=TRAINING_RUNTIMES)
