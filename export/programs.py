"""The programs of a bundle that take images: which there are, and the eval network of each."""

from fedgate.device_runtime.engines import open_program
from fedgate.device_runtime.formats.ports import Interface, role_ports

from .check import compare_gated, compare_plain
from .eval_networks import dense_network, masked_network, static_network
from .lowering import LOWERINGS, lower
from .plan import Plan
from .reference import EagerReference
from .skip import kernel_layers, skip_network

SKIP_RUNTIMES = ("executorch", "litert", "onnx")  # those for which the kernel has an operator


def interface(network, classes):
    """What the ports of a network's programs follow from."""
    return Interface((1, *network.shape), classes, tuple(network.layers), network.gate != "none")


def plan_programs(network, dense, kept_by_level, images, expected):
    """The programs of a gated network: dense, masked, skip, and a static one a level; a plain one has dense only.

    dense: the network whose `dense` program is the baseline. kept_by_level: level -> channels by layer, for the levels
    that get a static program. images, expected: what programs are compared on, and the arrays of `reference_outputs`.
    """
    reference, classes = EagerReference(network), expected["dense/logits"].shape[1]

    def gated(bundle, program):
        return compare_gated(open_program(bundle, program), reference, images, len(network.densities))

    def plain(bundle, program):
        name = "dense" if program.level is None else f"static/{program.level}"
        return compare_plain(open_program(bundle, program), images, expected[f"{name}/logits"])

    facts = interface(network, classes)
    plans = [image_plan("dense", dense_network(dense), facts, plain)]
    if network.gates:
        plans.append(image_plan("masked", masked_network(network), facts, gated))
        skip = image_plan("skip", skip_network(network), facts, gated)
        plans += [skip] if skip.kernel_layers else []
        for level, kept in kept_by_level.items():
            plans.append(image_plan("static", static_network(network, level, kept), facts, plain, level))
    return plans


def image_plan(role, body, facts, compare, level=None):
    """The `Plan` of an eval network; facts: an `Interface`."""
    inputs, outputs = role_ports(role, facts)
    takes_level = any(port.name == "level" for port in inputs)

    def lowered(runtime):
        return {LOWERINGS[runtime][0]: lower(body, runtime, facts.shape[1:], takes_level)}

    layers = kernel_layers(body)
    runtimes = SKIP_RUNTIMES if layers else tuple(LOWERINGS)
    return Plan(role, inputs, outputs, lowered, compare, level, layers, runtimes)
