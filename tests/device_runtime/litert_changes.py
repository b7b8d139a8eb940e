"""A LiteRT file of a small network, and changes to the last call of our operator in it.

A change is a function from a model of the schema's object API, which it changes.
"""

import functools

import numpy as np
import pytest
import small_skip
from small_skip import SHAPE

from fedgate.export.lowering import lower

flatbuffers = pytest.importorskip("flatbuffers")
flexbuffers = pytest.importorskip("flatbuffers.flexbuffers")
schema = pytest.importorskip("ai_edge_litert.schema_py_generated")

# what a node with all of its operands reads
INPUTS = (
    "x", "weight", "scale", "shift", "level", "in_open", "gate_weight", "gate_bias", "kept", "residual"
)  # fmt: skip


@functools.cache
def small_file():
    """The LiteRT file of `small_skip.network`."""
    return lower(small_skip.network(), "litert", SHAPE, True)


def node(model):
    """The last call of the operator, which has all operands."""
    code = [c.customCode for c in model.operatorCodes].index(b"fedgate.gated_conv2d")
    return [op for op in model.subgraphs[0].operators if op.opcodeIndex == code][-1]


def tensor(model, name):
    return model.subgraphs[0].tensors[node(model).inputs[INPUTS.index(name)]]


def raw_attributes(data):
    def change(model):
        node(model).customOptions = np.frombuffer(data, np.uint8)

    return change


def attributes(**changes):
    """Set attributes, or remove those that are None."""

    def change(model):
        found = flexbuffers.Loads(bytes(node(model).customOptions)) | changes
        kept = {name: value for name, value in found.items() if value is not None}
        raw_attributes(bytes(flexbuffers.Dumps(kept)))(model)

    return change


def shape(name, *sides):
    def change(model):
        tensor(model, name).shape = np.array(sides, np.int32)

    return change


def kind(name, value):
    def change(model):
        tensor(model, name).type = value

    return change


def variable(name):
    def change(model):
        tensor(model, name).buffer = 0

    return change


def shortened(name, size):
    def change(model):
        buffer = model.buffers[tensor(model, name).buffer]
        buffer.data = buffer.data[:size]

    return change


def kept(*values):
    def change(model):
        model.buffers[tensor(model, "kept").buffer].data = np.frombuffer(np.array(values, np.int32).tobytes(), np.uint8)

    return change


def operands(change_list, side="inputs"):
    def change(model):
        op = node(model)
        setattr(op, side, np.array(change_list(list(map(int, getattr(op, side)))), np.int32))

    return change


def write_over(name):
    def change(model):
        op = node(model)
        op.outputs = np.array([op.inputs[INPUTS.index(name)], op.outputs[1]], np.int32)

    return change


def turn_nodes(model):
    """The two gated calls in the wrong order."""
    operators = model.subgraphs[0].operators
    last = operators.index(node(model))
    operators[last - 1], operators[last] = operators[last], operators[last - 1]


def damaged(blob, change):
    model = schema.ModelT.InitFromPackedBuf(blob, 0)
    change(model)
    builder = flatbuffers.Builder(len(blob))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
