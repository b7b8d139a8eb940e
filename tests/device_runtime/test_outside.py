"""Programs that would read a file that no manifest names: refused, wherever in the format that is said."""

import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from damaged_programs import edit_litert
from onnx import TensorProto, helper, numpy_helper

from fedgate.device_runtime.engines import import_runtime, load_program
from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.formats import outside
from fedgate.device_runtime.formats.outside import refuse_outside

VALUES = np.arange(4, dtype=np.float32)
X, Y, Z = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xyz")


def external(name="w"):
    """A tensor whose values lie in w.bin of the working folder."""
    tensor = numpy_helper.from_array(VALUES, name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "w.bin"), ("offset", "0"), ("length", "16")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return tensor


def constant(value, name="w"):
    return helper.make_node("Constant", [], [name], value=value)


def add(*names):
    return helper.make_node("Add", [*names[:2]], [names[2]])


def model(nodes, tensors=(), **parts):
    graph = helper.make_graph(nodes, "g", [X], [Y], list(tensors), sparse_initializer=parts.pop("sparse", None))
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9, **parts)


def choice(branch):
    node = helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch)
    return model([node], [numpy_helper.from_array(np.array(True), "yes")])


def branch(nodes, tensors=()):
    return helper.make_graph(nodes, "branch", [], [Z], list(tensors))


def function(value):
    opsets = [helper.make_opsetid("", 18)]
    return helper.make_function("own", "AddW", ["a"], ["b"], [constant(value), add("a", "w", "b")], opsets)


def sparse(value):
    indices = numpy_helper.from_array(np.arange(4), "i")
    return helper.make_sparse_tensor(value, indices, [4])


def training(value):
    found = model([add("x", "x", "y")])
    found.training_info.add().initialization.CopyFrom(branch([constant(value, "z")]))
    return found


def with_attribute(**values):
    found = model([add("x", "x", "y")])
    found.graph.node[0].attribute.append(helper.make_attribute("more", *values.values()))
    return found


def default_of_function(value):
    found = model([add("x", "x", "y")], functions=[function(numpy_helper.from_array(VALUES))])
    found.functions[0].attribute_proto.append(helper.make_attribute("w", value))
    return found


# each takes a tensor and puts it into a model
PLACES = {
    "initializer": lambda w: model([add("x", "w", "y")], [w]),
    "constant": lambda w: model([constant(w), add("x", "w", "y")]),
    "constant of a branch": lambda w: choice(branch([constant(w), add("x", "w", "z")])),
    "initializer of a branch": lambda w: choice(branch([add("x", "w", "z")], [w])),
    "branch of a branch": lambda w: choice(
        branch([helper.make_node("If", ["yes"], ["z"], then_branch=branch([add("x", "w", "z")], [w]),
                                 else_branch=branch([add("x", "x", "z")]))])
    ),
    "function": lambda w: model([helper.make_node("AddW", ["x"], ["y"], domain="own")], functions=[function(w)]),
    "default of a function": default_of_function,
    "sparse values": lambda w: model([add("x", "w", "y")], sparse=[sparse(w)]),
    "sparse constant": lambda w: model([helper.make_node("Constant", [], ["w"], sparse_value=sparse(w))]),
    "list of tensors": lambda w: with_attribute(value=[w, w]),
    "list of graphs": lambda w: with_attribute(value=[branch([constant(w)])]),
    "list of sparse tensors": lambda w: with_attribute(value=[sparse(w)]),
    "training": training,
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_onnx_tensors_in_another_file_are_refused_wherever_they_are(place):
    refuse_outside("onnx", "file", PLACES[place](numpy_helper.from_array(VALUES, "w")).SerializeToString())
    with pytest.raises(FedgateError, match=r"the values of its tensor 'w' lie in another file"):
        refuse_outside("onnx", "file", PLACES[place](external()).SerializeToString())


@pytest.mark.parametrize("place", ["initializer of a branch", "sparse values"])
def test_the_runtime_itself_would_read_them(place, tmp_path, monkeypatch):
    """Else this would not be ours to refuse."""
    VALUES.tofile(tmp_path / "w.bin")
    monkeypatch.chdir(tmp_path)
    blob = PLACES[place](external()).SerializeToString()
    session = import_runtime("onnx").import_runtime().InferenceSession(blob, providers=["CPUExecutionProvider"])
    assert np.array_equal(session.run(None, {"x": VALUES})[0], 2 * VALUES)


def test_every_way_to_a_tensor_is_walked():
    """By the descriptors of the onnx package: no message field that leads to a TensorProto is left out."""
    names = {
        "model": "ModelProto", "graph": "GraphProto", "node": "NodeProto", "attribute": "AttributeProto",
        "sparse": "SparseTensorProto", "training": "TrainingInfoProto", "function": "FunctionProto",
        "tensor": "TensorProto",
    }  # fmt: skip
    messages = {kind: getattr(onnx, name).DESCRIPTOR for kind, name in names.items()}
    kinds = {descriptor.full_name: kind for kind, descriptor in messages.items()}
    for kind, descriptor in messages.items():
        found = {
            field.number: kinds[field.message_type.full_name]
            for field in descriptor.fields
            if field.message_type is not None and field.message_type.full_name in kinds
        }
        assert outside._MESSAGES[kind] == found
        # and what is not walked holds none of these
        others = [f.message_type for f in descriptor.fields if f.message_type and f.message_type.full_name not in kinds]
        while others:
            inner = [field.message_type for field in others.pop().fields if field.message_type is not None]
            assert not [message for message in inner if message.full_name in kinds]


def test_a_location_alone_is_enough():
    for change in (
        lambda tensor: tensor.ClearField("external_data"),
        lambda tensor: tensor.ClearField("data_location"),
    ):
        tensor = external()
        change(tensor)
        with pytest.raises(FedgateError, match="lie in another file"):
            refuse_outside("onnx", "file", model([add("x", "w", "y")], [tensor]).SerializeToString())


def tagged(field, data):
    return bytes([field << 3 | 2, len(data)]) + data


def graph_of(tensor):
    return tagged(7, tagged(5, tensor))


@pytest.mark.parametrize(
    "tensor",
    [
        b"\x70\x01",  # data_location: 1
        b"\x70\x81\x00",  # in two bytes
        b"\x70\x81\x80\x80\x80\x10",  # 2^32 + 1, of which a reader keeps 1
        b"\x70\x01\x70\x00",  # said twice
        b"\xf0\x00\x01",  # its key in two bytes
        b"\xf0\x80\x80\x80\x80\x01\x01",  # a key beyond 32 bits
        b"\x72\x01\x01",  # as bytes
        b"\x6a\x00",  # external_data without an entry
    ],
)
def test_odd_spellings_are_refused_too(tensor):
    with pytest.raises(FedgateError, match=r"lie in another file|is damaged"):
        refuse_outside("onnx", "file", graph_of(tensor))


@pytest.mark.parametrize(
    "data", [b"", b"\x3a", b"\x3a\x05\x00", b"\x3b", b"\x38\x01", b"\xff" * 20, graph_of(b"\x73\x74"), b"ORTM" * 10]
)
def test_what_is_no_onnx_file_is_refused_or_has_nothing_to_read(data):
    try:
        refuse_outside("onnx", "file", data)
    except FedgateError as error:
        assert str(error) == "onnx refuses to load file: it is damaged, or no program of onnx"


def test_random_bytes_end_in_one_line_or_none(bundle):
    draw = np.random.default_rng(0)
    for runtime in ("onnx", "litert"):
        whole = bundle.read(next(p.file for p in bundle.manifest.programs if p.runtime == runtime))
        for _ in range(300):
            data = bytearray(whole)
            for at in draw.integers(0, min(len(data), 3000), 3):
                data[at] = draw.integers(256)
            try:
                refuse_outside(runtime, "file", bytes(data[: draw.integers(len(data) + 1)]))
            except FedgateError as error:
                assert "\n" not in str(error)


def groups(model):
    model.externalBufferGroups = [schema.ExternalBufferGroupT()]
    model.externalBufferGroups[0].name = b"w.bin"


def buffers(model):
    model.externalBuffers = [schema.ExternalBufferT()]


@pytest.mark.parametrize("change", [groups, buffers])
def test_litert_buffers_in_another_file_are_refused(bundle, change):
    data = bundle.read("litert-dense.tflite")
    refuse_outside("litert", "file", edit_litert(data, lambda model: None))
    with pytest.raises(FedgateError, match="buffers lie in another file"):
        refuse_outside("litert", "file", edit_litert(data, change))


def test_a_bundle_with_such_a_program_does_not_load(bundle, changed):
    blob = onnx.load_from_string(bundle.read("onnx-dense.onnx"))
    blob.graph.initializer[0].CopyFrom(external(blob.graph.initializer[0].name))
    with pytest.raises(FedgateError, match=r"onnx-dense\.onnx is refused: .* a file that its bundle does not hash"):
        changed(files={"onnx-dense.onnx": blob.SerializeToString()})


def test_a_session_takes_no_other_format(bundle, changed, tmp_path):
    """ONNX Runtime's own format, which it would else know by its first bytes."""
    runtime = import_runtime("onnx").import_runtime()
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(tmp_path / "dense.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    runtime.InferenceSession(bundle.read("onnx-dense.onnx"), options, providers=["CPUExecutionProvider"])
    own = (tmp_path / "dense.ort").read_bytes()
    assert own[4:8] == b"ORTM"
    runtime.InferenceSession(own, providers=["CPUExecutionProvider"])
    found = changed(files={"onnx-dense.onnx": own})
    (program,) = (p for p in found.manifest.programs if p.file == "onnx-dense.onnx")
    with pytest.raises(FedgateError, match="onnx refuses to load"):
        load_program(found, program)
