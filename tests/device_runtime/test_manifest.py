"""Manifests from strangers: what is wrong is named, and nothing but our own error comes out."""

import copy
import json

import pytest
import tiny_bundle
from hypothesis import given, settings
from hypothesis import strategies as st
from json_values import HASHES, VALUES, paths, put

from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.formats.macs import Layer
from fedgate.device_runtime.formats.manifest import Manifest, parse_manifest, render_manifest


def valid() -> dict:
    programs = [
        tiny_bundle.entry("m.tflite", "litert", "masked", None) | HASHES,
        tiny_bundle.entry("s.pte", "executorch", "static", 1) | HASHES,
        tiny_bundle.entry("d.onnx", "onnx", "dense", None) | HASHES,
    ]
    files = {"salience.safetensors": HASHES, "reference.safetensors": HASHES}
    return copy.deepcopy({**tiny_bundle.fields(programs), "files": files})


def test_a_valid_manifest_is_read():
    manifest = parse_manifest(render_manifest(valid()))
    assert manifest.layers == tiny_bundle.LAYERS and manifest.densities == (0.25, 0.5)
    assert manifest.shape == (1, 3, 8, 8) and manifest.mean == (0.5, 0.4, 0.3)
    assert [p.level for p in manifest.programs] == [None, 1, None]
    assert manifest.programs[0].inputs[0].layout == "NHWC" and manifest.programs[0].takes_level


def test_a_bundle_without_a_rule_for_pictures_has_the_one_that_there_was():
    document = valid()
    assert not {"fit", "background"} & set(document["input"])
    assert parse_manifest(render_manifest(document)).background == (255, 255, 255)
    document["input"] |= {"fit": "crop", "background": [1, 2, 3]}
    assert parse_manifest(render_manifest(document)).background == (1, 2, 3)


def test_unknown_keys_are_ignored():
    fields = valid() | {"later": [1]}
    fields["programs"][0]["later"] = 1
    assert isinstance(parse_manifest(render_manifest(fields)), Manifest)


def gate_none(fields):
    fields.update(gate="none", densities=[1.0], default_level=0, layers=[tiny_bundle.LAYERS[0].to_json()])
    del fields["programs"][1]  # a static one


def twice(fields):
    fields["programs"].append(fields["programs"][0])


def same_role_twice(fields):
    fields["programs"].append(fields["programs"][0] | {"file": "other.tflite"})


WRONG = {
    "outside the bundle": [
        put("programs", 0, "file", "../../etc/passwd"),
        put("programs", 0, "file", "/etc/passwd"),
        put("programs", 0, "file", "a/b"),
        put("programs", 0, "file", "a\\b"),
        put("programs", 0, "file", ".."),
        put("programs", 0, "file", "C:x"),
        put("files", "../x", HASHES),
    ],
    "plain file name": [
        put("programs", 0, "file", ""),
        put("programs", 0, "file", "."),
        put("programs", 0, "file", "manifest.json"),
        put("programs", 0, "file", "a\nb"),
        put("programs", 0, "file", "m.tflite\n"),
        put("programs", 0, "file", "-rf"),
        put("programs", 0, "file", 5),
        put("programs", 0, "file", "x" * 300),
    ],
    "twice": [twice, same_role_twice],
    "'labels'": [put("labels", []), put("labels", ["\x1b[2J"]), put("labels", "abc"), put("labels", [1])],
    "'densities'": [
        put("densities", []),
        put("densities", [0.5, 0.5]),
        put("densities", [1.5]),
        put("densities", [True]),
    ],
    "'default_level'": [put("default_level", 2), put("default_level", -1), put("default_level", True)],
    "'mean'": [put("input", "mean", [0.5]), put("input", "mean", ["a", 1, 1])],
    "'std'": [put("input", "std", [0, 1, 1]), put("input", "std", [1, 1, -1])],
    "'shape'": [put("input", "shape", [2, 3, 8, 8]), put("input", "shape", [1, 3, 8])],
    "'layout'": [put("input", "layout", "NHWC"), put("programs", 0, "inputs", 0, "layout", "CHW")],
    "'fit' must be one of crop": [put("input", "fit", "stretch"), put("input", "fit", 1)],
    "'background'": [
        put("input", "background", [255, 255]),
        put("input", "background", [0, 0, 256]),
        put("input", "background", [0, 0.5, 1]),
        put("input", "background", "white"),
    ],
    "'input' must be an object": [put("input", []), put("input", None)],
    "'level'": [put("programs", 1, "level", 2), put("programs", 1, "level", None), put("programs", 0, "level", 0)],
    "'runtime'": [put("programs", 0, "runtime", "tensorrt"), put("programs", 0, "runtime", [])],
    "'role'": [put("programs", 0, "role", "fast")],
    "'precision'": [put("programs", 0, "precision", "int4"), put("programs", 0, "precision", None)],
    "'tolerance'": [put("programs", 0, "tolerance", each) for each in (-1e-9, 1.1, "1e-4", None)],
    "'needs_kernel'": [put("programs", 0, "needs_kernel", 0)],
    "'kernel_layers'": [
        put("programs", 0, "kernel_layers", ["other"]),
        put("programs", 0, "kernel_layers", [7]),
        put("programs", 0, "kernel_layers", "conv"),
    ],
    "only 'skip' needs the kernel": [
        put("programs", 0, "needs_kernel", True),
        put("programs", 0, "role", "skip"),
    ],
    "'sha256'": [put("programs", 0, "sha256", "0" * 63), put("programs", 0, "sha256", "G" * 64)],
    "'bytes'": [put("programs", 0, "bytes", -1), put("programs", 0, "bytes", 1.5)],
    "do not fit its role": [
        put("programs", 0, "inputs", 0, "shape", [1, 3, 8, 8]),
        put("programs", 0, "inputs", 1, "dtype", "int64"),
        put("programs", 0, "outputs", 1, "shape", [1, 39]),
        put("programs", 2, "role", "masked"),
        put("labels", ["one", "two"]),
    ],
    "has no 'model'": [put("model", ...)],
    "'width'": [put("width", 0), put("width", "1")],
    "'training'": [put("training", []), put("training", {"a": [1]}), put("training", {"a": "\x07"})],
    "'files'": [put("files", {}), put("files", [])],
    "gate 'none'": [put("gate", "none"), gate_none, put("layers", [])],
}


@pytest.mark.parametrize("reason,change", [(reason, c) for reason, cs in WRONG.items() for c in cs])
def test_wrong_fields_are_named(reason, change):
    fields = valid()
    change(fields)
    with pytest.raises(FedgateError) as caught:
        parse_manifest(render_manifest(fields))
    assert reason in str(caught.value) and "\n" not in str(caught.value)


def test_gate_none_has_only_dense_programs():
    fields = valid()
    gate_none(fields)
    fields["layers"] = [Layer("head", "linear", 24, 5, (1, 1), (1, 1)).to_json()]
    fields["programs"] = fields["programs"][1:]
    assert parse_manifest(render_manifest(fields)).programs[0].role == "dense"


def test_an_unknown_version_is_refused():
    for version in (1, 3, "2", True, 2.5, None):
        text = render_manifest(valid()).replace(b'"version": 2', f'"version": {json.dumps(version)}'.encode())
        with pytest.raises(FedgateError, match="version"):
            parse_manifest(text)


def test_every_changed_byte_is_refused():
    data = render_manifest(valid())
    for place in range(len(data)):
        for new in (data[place] ^ 1, data[place] ^ 0x20):
            with pytest.raises(FedgateError):
                parse_manifest(data[:place] + bytes([new]) + data[place + 1 :])


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(valid())), VALUES))
def test_random_fields_give_a_manifest_or_our_error(fields):
    try:
        assert isinstance(parse_manifest(render_manifest({**valid(), **fields})), Manifest)
    except FedgateError as error:
        assert "\n" not in str(error)


@settings(max_examples=500, deadline=None)
@given(st.sampled_from([path for path in paths(valid()) if path]), VALUES)
def test_any_value_anywhere_gives_a_manifest_or_our_error(path, value):
    fields = valid()
    put(*path, value)(fields)
    try:
        assert isinstance(parse_manifest(render_manifest(fields)), Manifest)
    except FedgateError as error:
        assert "\n" not in str(error)


@settings(max_examples=200, deadline=None)
@given(VALUES.map(json.dumps).map(str.encode) | st.binary(max_size=100))
def test_other_json_and_bytes_give_only_our_error(data):
    with pytest.raises(FedgateError):
        parse_manifest(data)
