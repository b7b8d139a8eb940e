"""Bundles that train: manifests and tail files from strangers, and programs of named ports."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import tail_bundle
from hypothesis import given, settings
from hypothesis import strategies as st
from json_values import HASHES, VALUES, paths, put
from mutate import mutations

from fedgate.device_runtime.engines import guard
from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.formats.bundle import Bundle
from fedgate.device_runtime.formats.manifest import Manifest, parse_manifest, render_manifest
from fedgate.device_runtime.formats.ports import parameters
from fedgate.device_runtime.formats.tail import load_tail, pack_tail
from fedgate.device_runtime.formats.tensors import pack, unpack


def manifest():
    return parse_manifest(render_manifest(tail_bundle.fields(HASHES)))


def test_a_manifest_that_trains_is_read():
    found = manifest()
    assert found.tail.layers == ("two", "head") and found.tail.batch_size == tail_bundle.BATCH
    trunk, tail = found.tail.split(found.layers)
    assert [layer.name for layer in trunk] == ["stem", "one"] and [layer.name for layer in tail] == ["two", "head"]
    assert all(program.takes_level for program in found.programs)
    module = found.programs[3]
    assert module.weights == tail_bundle.WEIGHTS and parameters(module) == parameters(found.programs[2])


def test_other_weights_of_a_training_module_are_tried_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    monkeypatch.delenv("FEDGATE_NO_GUARD", raising=False)
    known, module = Bundle(tmp_path, manifest()), manifest().programs[3]
    guard.remember(known, [module])
    guard.check(known, [module])
    other = replace(known.manifest, files=known.manifest.files | {tail_bundle.WEIGHTS: ("1" * 64, 7)})
    with pytest.raises(FedgateError, match="cannot start a process to try executorch-train-module"):
        guard.check(Bundle(tmp_path, other), [module])


WRONG = {
    "'trainable'": [put("tail", "trainable", "all")],
    "the last of the network's layers": [
        put("tail", "layers", ["head", "two"]),
        put("tail", "layers", ["one", "two"]),
        put("tail", "layers", [7]),
    ],
    "'features'": [put("tail", "features", []), put("tail", "features", [0, 8, 8]), put("tail", "features", "abc")],
    "'batch_size'": [put("tail", "batch_size", 0), put("tail", "batch_size", True)],
    "'tail' goes with a file": [
        put("files", "tail.safetensors", ...),
        lambda fields: fields.update(tail=None, programs=[]),
    ],
    "has no 'tail'": [put("tail", ...)],
    "do not begin with a tail's parameters": [
        lambda fields: fields["programs"][1]["inputs"].__delitem__(slice(0, 6)),
        put("programs", 2, "inputs", 0, "name", "nodot"),
        put("programs", 3, "inputs", 0, "name", "momentum/nodot"),
        lambda fields: fields["programs"][3]["inputs"].__delitem__(slice(0, 6)),
        put("programs", 2, "role", "train-module"),
    ],
    "needs the file executorch-train-module.ptd": [
        put("files", tail_bundle.WEIGHTS, ...),
        put("programs", 3, "runtime", "litert"),
    ],
    "a list of different names": [put("programs", 1, "inputs", 1, "name", "head.bias")],
    "do not fit its role": [
        put("programs", 0, "outputs", 0, "shape", [1, 16, 8, 9]),
        put("programs", 0, "outputs", 1, "shape", [1, 24]),
        put("programs", 1, "inputs", 6, "shape", [2, 16, 8, 8]),
        put("programs", 1, "outputs", 1, "shape", [1, 16]),
        put("programs", 2, "inputs", 6, "name", "momentum/other.weight"),
        put("programs", 2, "inputs", 7, "shape", [5]),
        put("programs", 2, "inputs", 13, "dtype", "int32"),
        put("programs", 2, "inputs", 13, "shape", [4, 24]),
        put("programs", 2, "inputs", 14, "dtype", "int64"),
        lambda fields: fields["programs"][2]["inputs"].pop(),
        lambda fields: fields["programs"][2]["outputs"].pop(),
        lambda fields: fields["programs"][2]["outputs"].reverse(),
        put("programs", 3, "inputs", 0, "shape", [6]),
        lambda fields: fields["programs"][3]["outputs"].insert(0, fields["programs"][2]["outputs"][0]),
    ],
    "only 'skip' needs the kernel": [
        lambda fields: fields["programs"][2].update(needs_kernel=True, kernel_layers=["two"]),
        put("programs", 0, "needs_kernel", True),
    ],
    "twice": [lambda fields: fields["programs"].append(fields["programs"][2] | {"file": "other.tflite"})],
}


@pytest.mark.parametrize("reason,change", [(reason, c) for reason, cs in WRONG.items() for c in cs])
def test_what_is_wrong_with_programs_that_train_is_named(reason, change):
    fields = json.loads(json.dumps(tail_bundle.fields(HASHES)))
    change(fields)
    with pytest.raises(FedgateError) as caught:
        parse_manifest(render_manifest(fields))
    assert reason in str(caught.value) and "\n" not in str(caught.value)


def test_a_trunk_may_come_with_the_kernel_and_without():
    fields = json.loads(json.dumps(tail_bundle.fields(HASHES)))
    skip = fields["programs"][0] | {"file": "s.tflite", "needs_kernel": True, "kernel_layers": ["one"]}
    fields["programs"].append(skip)
    assert parse_manifest(render_manifest(fields)).programs[4].needs_kernel


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([path for path in paths(tail_bundle.fields(HASHES)) if path]), VALUES)
def test_any_value_anywhere_gives_a_manifest_or_our_error(path, value):
    fields = json.loads(json.dumps(tail_bundle.fields(HASHES)))
    put(*path, value)(fields)
    try:
        assert isinstance(parse_manifest(render_manifest(fields)), Manifest)
    except FedgateError as error:
        assert "\n" not in str(error)


def read(blob, folder):
    path = folder / "tail.safetensors"
    path.write_bytes(blob)
    return load_tail(path.read_bytes(), path, manifest())


def test_a_tail_file_is_read_as_it_was_written(tmp_path):
    wanted = tail_bundle.tail()
    found = read(pack_tail(wanted), tmp_path)
    assert found.spec == wanted.spec and found.tensors.keys() == wanted.tensors.keys()
    assert all(np.array_equal(found.tensors[name], value) for name, value in wanted.tensors.items())


BAD_META = {
    "'channels'": [("channels", {"one": 16}), ("channels", [])],
    "'parameters'": [("parameters", {"other.weight": [1]}), ("parameters", {"head.bias": [6]}), ("parameters", 3)],
    "'axes'": [("axes", {}), ("axes", dict.fromkeys(tail_bundle.SHAPES))],
    "'level_of'": [("level_of", {"head.bias": 2}), ("level_of", {"nobody": 0})],
    "'control'": [("control", ["nobody"]), ("control", ["head.bias", "head.bias"]), ("control", [[]])],
    "'levels'": [("levels", 1)],
    "'base_hash'": [("base_hash", "x")],
    "'base_round'": [("base_round", -1)],
    "fedgate-tail": [("format", "other"), ("version", 2)],
}


@pytest.mark.parametrize("reason,key,value", [(reason, *pair) for reason, pairs in BAD_META.items() for pair in pairs])
def test_wrong_metadata_is_named(tmp_path, reason, key, value):
    tensors, meta = unpack(pack_tail(tail_bundle.tail()))
    with pytest.raises(FedgateError, match=reason):
        read(pack(tensors, meta | {key: value}), tmp_path)


def test_wrong_tensors_are_named(tmp_path):
    tensors, meta = unpack(pack_tail(tail_bundle.tail()))
    for value in (np.full(5, np.nan, np.float32), np.zeros(5, np.float64)):
        with pytest.raises(FedgateError, match=r"head\.bias"):
            read(pack(tensors | {"head.bias": value}, meta), tmp_path)
    without = {key: {name: v for name, v in meta[key].items() if name != "head.bias"} for key in ("parameters", "axes")}
    with pytest.raises(FedgateError, match=r"no parameter 'head\.bias'"):
        read(pack(tensors, meta | without), tmp_path)


@settings(max_examples=200, deadline=None)
@given(mutations(pack_tail(tail_bundle.tail())))
def test_damaged_tail_files_give_a_tail_or_our_error(tmp_path_factory, blob):
    try:
        read(blob, tmp_path_factory.mktemp("tail"))
    except FedgateError as error:
        assert "\n" not in str(error)
