"""What the kernel refuses: with the reason, the status of its header, and nothing written."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.kernels.library import _describe, _Layer

OK, BAD_LAYER, BAD_CALL, NO_MEMORY = range(4)
RESIDUAL = {"residual_channels": 4, "residual_height": 5, "residual_width": 6, "residual_stride": 1}


def valid(**options):
    """The C structures of a call of a gated layer 3 -> 4 channels on a map of 5 x 6 with two levels, and its arrays."""
    rng = np.random.default_rng(0)
    gate = {"gate_weight": rng.normal(size=(3, 4)), "gate_bias": np.ones(4), "kept": np.array([2, 4])}
    arrays = rng.normal(size=(2, 3, 5, 6)), rng.normal(size=(4, 3, 3, 3)), np.ones((2, 4)), np.zeros((2, 4))
    return _describe(*arrays, residual=rng.normal(size=(2, 4, 5, 6)), **gate, **options)


def status(context, layer, call):
    return context._c.fedgate_conv2d(context._pointer, layer, call)


@pytest.mark.parametrize(
    "fields, reason",
    [
        ({"in_channels": 0}, "channels must be from 1 to 65536"),
        ({"in_channels": 65537}, "channels must be from 1 to 65536"),
        ({"in_channels": -(2**31)}, "channels must be from 1 to 65536"),
        ({"out_channels": 0}, "channels must be from 1 to 65536"),
        ({"out_channels": 2**31 - 1}, "channels must be from 1 to 65536"),
        ({"height": 0}, "sides must be from 1 to 4096"),
        ({"height": -5}, "sides must be from 1 to 4096"),
        ({"width": 4097}, "sides must be from 1 to 4096"),
        ({"kernel": 0}, "kernels must be 1x1 or 3x3"),
        ({"kernel": 2}, "kernels must be 1x1 or 3x3"),
        ({"kernel": 5}, "kernels must be 1x1 or 3x3"),
        ({"stride": 0}, "strides must be 1 or 2"),
        ({"stride": 3}, "strides must be 1 or 2"),
        ({"relu": 2}, "relu must be 0 or 1"),
        ({"relu": -1}, "relu must be 0 or 1"),
        ({"levels": 0}, "there must be a level"),
        ({"levels": -1}, "there must be a level"),
        ({"pool": 0}, "pooling must be 1 or 2"),
        ({"pool": 3}, "pooling must be 1 or 2"),
        ({"pool": 2, "height": 1}, "there is nothing to pool"),
        ({"pool": 2, "width": 2, "stride": 2}, "there is nothing to pool"),
        ({"residual_channels": -1}, "the residual's sizes are out of range"),
        ({"residual_channels": 65537}, "the residual's sizes are out of range"),
        ({**RESIDUAL, "residual_stride": 0}, "the residual's sizes are out of range"),
        ({**RESIDUAL, "residual_stride": 65}, "the residual's sizes are out of range"),
        ({**RESIDUAL, "residual_height": 0}, "the residual's sizes are out of range"),
        ({**RESIDUAL, "residual_width": 4097}, "the residual's sizes are out of range"),
        ({**RESIDUAL, "residual_offset": -1}, "the residual's sizes are out of range"),
        ({**RESIDUAL, "residual_offset": 2**31 - 1}, "the residual's sizes are out of range"),
        ({**RESIDUAL, "residual_offset": 1}, "the residual does not have the output's shape"),
        ({**RESIDUAL, "residual_channels": 5}, "the residual does not have the output's shape"),
        ({**RESIDUAL, "residual_height": 6}, "the residual does not have the output's shape"),
        ({**RESIDUAL, "residual_width": 5}, "the residual does not have the output's shape"),
        ({**RESIDUAL, "residual_stride": 2}, "the residual does not have the output's shape"),
    ],
    ids=str,
)
def test_a_layer_that_is_not_supported_is_refused_with_the_reason(library, fields, reason):
    layer, call, y, open, _alive = valid()
    context = library.context()
    assert context._c.fedgate_refused(layer) is None
    for name, value in fields.items():
        setattr(layer, name, value)
    assert context._c.fedgate_refused(layer).decode() == reason
    assert status(context, layer, call) == BAD_LAYER
    assert np.isnan(y).all() and (open == 255).all()


def test_the_reason_reaches_callers_in_python(library):
    with pytest.raises(FedgateError, match="refuses the layer: kernels must be 1x1 or 3x3"):
        library.context().conv2d(np.zeros((1, 2, 4, 4)), np.zeros((3, 2, 5, 5)), np.ones((1, 3)), np.zeros((1, 3)))


@pytest.mark.parametrize("name", ["weight", "scale", "shift", "gate_bias", "kept"])
def test_a_layer_that_lacks_an_array_is_refused(library, name):
    layer, call, y, open, _alive = valid()
    setattr(layer, name, None)
    assert status(library.context(), layer, call) == BAD_LAYER
    assert np.isnan(y).all() and (open == 255).all()


@pytest.mark.parametrize(
    "name, value",
    [("batch", -1), ("level", -1), ("level", 2), ("level", 2**31 - 1), ("x", None), ("y", None), ("residual", None)],
)
def test_a_call_that_does_not_fit_is_refused(library, name, value):
    layer, call, y, open, _alive = valid()
    setattr(call, name, value)
    assert status(library.context(), layer, call) == BAD_CALL
    assert np.isnan(y).all() and (open == 255).all()


def test_missing_arguments_are_refused(library):
    layer, call, *_alive = valid()
    context = library.context()
    for arguments in ((None, layer, call), (context._pointer, None, call), (context._pointer, layer, None)):
        assert context._c.fedgate_conv2d(*arguments) == BAD_CALL


def test_what_may_be_missing(library, isa):
    context = library.context(isa)
    layer, call, y, open, _alive = valid()
    assert status(context, layer, call) == OK
    layer2, call2, y2, _, _alive2 = valid()
    call2.open = None
    assert status(context, layer2, call2) == OK
    assert y2.tobytes() == y.tobytes()
    # a batch of none: nothing is written
    layer3, call3, y3, open3, _alive3 = valid()
    call3.batch = 0
    assert status(context, layer3, call3) == OK
    assert np.isnan(y3).all() and (open3 == 255).all()
    # no gate: its other arrays are not looked at
    layer.gate_weight = layer.gate_bias = layer.kept = None
    assert status(context, layer, call) == OK
    assert (open == 1).all()


@settings(max_examples=500, deadline=None)
@given(st.lists(st.one_of(st.integers(-1, 70), st.integers(-(2**31), 2**31 - 1)), min_size=14, max_size=14))
def test_any_integers_are_refused_or_describe_a_layer(library, integers):
    """No division by zero, no overflow into what looks right."""
    layer = _Layer(*integers)
    reason = library.context()._c.fedgate_refused(layer)
    if reason is None:
        assert min(layer.in_channels, layer.out_channels, layer.height, layer.width, layer.levels) > 0
        assert layer.residual_offset + layer.residual_channels <= layer.out_channels or layer.residual_channels == 0


def test_other_contexts_are_refused(library):
    for isa, threads in (("sse9", 1), (None, 0), (None, -1)):
        with pytest.raises(FedgateError, match="no kernel for instruction set"):
            library.context(isa, threads)


# in a process of its own, with little memory: some systems promise any amount, and end whoever comes to use it
STARVED = """
import ctypes, resource, sys
import numpy as np
from fedgate.device_runtime.kernels.library import KernelLibrary, _describe
library = KernelLibrary(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
def arrays(channels):
    return np.ones((1, channels, 8, 8)), np.ones((4, channels, 3, 3)), np.ones((1, 4)), np.ones((1, 4))
context = library.context()
expected = context.conv2d(*arrays(2))[0]
layer, call, y, *alive = _describe(*arrays(2))
layer.in_channels, layer.height, layer.width = 65536, 4096, 4096
assert context._c.fedgate_conv2d(context._pointer, layer, call) == 3
assert np.isnan(y).all()
assert (context.conv2d(*arrays(2))[0] == expected).all()
# of so many threads only some can be started
crowd = library.context(threads=5000)
assert (crowd.conv2d(*arrays(100))[0] == context.conv2d(*arrays(100))[0]).all()
print("survived")
"""


def test_a_lack_of_memory_or_threads_is_survived(library_path):
    command = [sys.executable, "-c", STARVED, str(library_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "survived\n"), done.stderr
