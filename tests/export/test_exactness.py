"""Every program against eager PyTorch: each registered model, density, role and runtime, on 64 inputs.

`masked` and `skip` are compared by the rule of equal masks, `static` with eager under the same fixed masks, `dense`
with eager without gates; outputs within 1e-4 of the largest logit. `tflite` runs the LiteRT program on
tflite-runtime 2.14.

The networks of one density are the levels of one trained network, so their dense and static programs are those of
the network with all levels, and are lowered once: lowering is nearly all of the time.
"""

import functools

import numpy as np
import pytest
from lowered import load, load_elsewhere, lowered, plan
from trained import LEVELS, distinct_masks, inputs, subject

from fedgate.device_runtime.formats.macs import executed
from fedgate.export.check import compare_gated, compare_plain
from fedgate.export.eval_networks import dense_network, masked_network, static_network
from fedgate.export.programs import SKIP_RUNTIMES
from fedgate.export.reference import fixed_masks
from fedgate.export.skip import skip_network

MODELS = ("cnn", "resnet20", "resnet32", "resnet56", "vgg11", "vgg16", "resnet18")
RUNTIMES = ("executorch", "litert", "tflite", "onnx")
# The rest is left to `make test-all`: lowering a ResNet-20's masked program takes half a minute.
SHORT = (("cnn", (0.5,)), ("cnn", LEVELS), ("resnet20", (0.5,)))


def case(model, densities, role, runtime, gate="paper", width=1.0, short=False):
    """A parameter set named as in resnet20-0.5-masked-litert; `dial` is the network with all levels."""
    name = [model, "dial" if densities == LEVELS else f"{densities[0]:g}", role, runtime]
    name += [gate] * (gate != "paper") + [f"width{width:g}"] * (width != 1.0)
    marks = () if short else pytest.mark.slow
    return pytest.param(model, densities, role, runtime, gate, width, id="-".join(name), marks=marks)


def cases():
    """In an order in which whatever is cached is used up before the next comes."""
    for model in MODELS:
        for densities in (LEVELS, *((d,) for d in LEVELS)):
            short = (model, densities) in SHORT
            if len(densities) > 1:
                roles = ("dense", "masked", "skip", *(f"static-{level}" for level in range(len(LEVELS))))
            else:
                roles = ("dense", "masked", "skip", "static-0") if short else ("masked", "skip")
            for role in roles:
                quick = short and (role in ("masked", "skip", "static-0") or (densities == (0.5,) and model == "cnn"))
                for runtime in RUNTIMES:
                    if role != "skip" or runtime.replace("tflite", "litert") in SKIP_RUNTIMES:
                        yield case(model, densities, role, runtime, short=quick)
    for gate, densities, roles in (
        ("fbs", (0.5,), ("masked", "static-0")),
        ("scale", (1.0,), ("masked", "static-0")),
        ("none", (1.0,), ("dense",)),
    ):
        for role in roles:
            yield from (case("cnn", densities, role, e, gate, short=e == "onnx") for e in RUNTIMES)
    for role in ("dense", "masked", "static-0"):
        yield from (case("resnet20", (0.5,), role, runtime, width=0.5) for runtime in RUNTIMES)


def make_plan(role, network, kept):
    if role == "dense":
        return plan("dense", dense_network(network), network)
    if role == "masked":
        return plan("masked", masked_network(network), network)
    if role == "skip":
        return plan("skip", skip_network(network), network)
    level = int(role.removeprefix("static-"))
    return plan("static", static_network(network, level, kept[level]), network, level=level)


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """A function that lowers one program and keeps it while the runtimes of its format are compared."""

    @functools.lru_cache(maxsize=1)
    def make(model, densities, role, runtime, gate, width):
        network, _, kept = subject(model, densities, gate, width)
        made = make_plan(role, network, kept)
        return made, lowered(made, runtime, network, tmp_path_factory.mktemp(f"{model}-{role}-{runtime}"))

    return make


@functools.lru_cache(maxsize=1)
def expected_logits(model, densities, role, gate, width):
    """What eager computes on the inputs for a program without masks of its own."""
    network, reference, kept = subject(model, densities, gate, width)
    if role == "dense":
        return reference.dense(inputs(model))
    level = int(role.removeprefix("static-"))
    return reference.run(inputs(model), level, forced=fixed_masks(network.layers, kept[level]))[0]


def assert_masks_depend_on_the_input(network, reference, images):
    """A program with the same masks for every input must not be able to pass."""
    for level, density in enumerate(network.densities):
        _, masks, gates = reference.run(images, level)
        least = min(distinct_masks(network, masks).values())
        assert least >= (2 if density == 1 else 8), (density, least)  # of 64 inputs; narrow layers have few masks
        assert (gates == 0).any() and (gates > 0).any()


@pytest.mark.parametrize("model,densities,role,runtime,gate,width", cases())
def test_equals_eager(model, densities, role, runtime, gate, width, program, small_environment, need_kernel):
    images = inputs(model)
    network, reference, _ = subject(model, densities, gate, width)
    made, bundle = program(model, densities, role, runtime.replace("tflite", "litert"), gate, width)
    if made.role == "skip":
        need_kernel()
    loaded = load_elsewhere(bundle, images, small_environment("tflite")) if runtime == "tflite" else load(bundle)
    if bundle.manifest.programs[0].takes_level:
        if gate != "scale":
            assert_masks_depend_on_the_input(network, reference, images)
        result = compare_gated(loaded, reference, images, len(densities))
        assert result.runs == len(images) * len(densities) and result.decisions > 0
    else:
        result = compare_plain(loaded, images, expected_logits(model, densities, role, gate, width))
        assert result.runs == len(images)
    assert result.max_error <= 1e-4
    if made.role == "skip" and runtime != "tflite":
        assert_counts_equal_the_masks(loaded, network, images)


def assert_counts_equal_the_masks(loaded, network, images):
    """The kernel's own count of MACs is exactly what the masks of the same run ask of its layers."""
    for level in range(len(network.densities)):
        for image in images[:4]:
            _, masks, macs, *_ = loaded.run(image[None], level)
            asked, everything = (executed(network.layers, each) for each in (masks, np.ones_like(masks)))
            own = loaded.program.kernel_layers
            stock = sum(everything[name][0] for name in everything if name not in own)
            assert macs - stock == sum(asked[name][0] for name in own) > 0
