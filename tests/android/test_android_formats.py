"""The app's Kotlin reads, writes and counts what fedgate's Python does: JSON, tensors, bundles, draws."""

import hashlib
import json
import math
import os
import random
import shutil

import numpy as np
import pytest

from fedgate.device_runtime.bench.stats import median_interval
from fedgate.device_runtime.errors import FedgateError
from fedgate.device_runtime.formats import macs
from fedgate.device_runtime.formats.bundle import load_bundle
from fedgate.device_runtime.formats.checks import canonical_json, parse_json
from fedgate.device_runtime.formats.manifest import render_manifest
from fedgate.device_runtime.formats.tensors import DTYPES, pack, read_tensors, tensors_hash
from fedgate.device_runtime.tuning.evaluate import held_out
from fedgate.device_runtime.tuning.steps import batches

TEXTS = [
    b'{"b": [1, -2.50, true, null], "a": {"\\u00e9": "\\ud83d\\ude00 \x7f \\" \\\\ \\/ \\b\\f\\n\\r\\t"}}',
    b"0", b"-0", b"-0.0", b"1e5", b"1E+05", b"12345678901234567890", b"9223372036854775807", b"1e16", b"1e-5",
    b"0.0001", b"1e22", b"5e-324", b"1.7976931348623157e308", b"2.2250738585072014e-308", b"[]", b"{}", b" [ 1 ,2 ] ",
    '{"\U0001f600": 1, "\ue000": 2, "z": 3, "é": 4}'.encode(),
]  # fmt: skip
REFUSED = [
    b"", b" ", b"nul", b"[1,]", b"{,}", b'{"a" 1}', b'{"a": 1, "a": 1}', b"01", b"+1", b"1.", b".5", b"1e", b"1e999",
    b"NaN", b"Infinity", b'"\x01"', b'"\\x"', b'"\\u12g4"', b'"\\ud800"', b'"\\udc00x"', b'"a', b"[1 2]", b"1 2",
    b"\xff", b"\xef\xbb\xbf1",
    b"[" * 100_000, b"9" * 5000, b"{1: 2}", b"tru", b"'a'",
]  # fmt: skip


def test_json(ask):
    draw = random.Random(1)
    numbers = [draw.uniform(-1, 1) * 10.0 ** draw.randint(-30, 30) for _ in range(300)]
    numbers += [math.ldexp(1.0, power) for power in range(-1074, 1024, 9)] + [
        float(draw.getrandbits(60)) for _ in range(100)
    ]
    texts = [*TEXTS, *(repr(number).encode() for number in numbers)]
    assert ask(["json", text.hex()] for text in texts) == [canonical_json(parse_json(text, "it")) for text in texts]
    answers = ask(["json", text.hex()] for text in REFUSED)
    for text, answer in zip(REFUSED, answers, strict=True):
        assert isinstance(answer, dict) and "it is not valid JSON" in answer["refused"], (text[:20], answer)
        with pytest.raises(FedgateError):
            parse_json(text, "it")


def test_tensor_files_have_the_same_bytes_and_hashes(ask, tmp_path):
    draw = np.random.default_rng(0)
    tensors = {
        f"{name}/é\n{i}": draw.integers(0, 100, (i, 3)).astype(dtype) for name, dtype in DTYPES.items() for i in (0, 2)
    }
    tensors["scalar"] = np.array(7, np.int32)
    blob = pack(tensors, {"format": "x", "n": [1.5, "\U0001f600", None]})
    (tmp_path / "file").write_bytes(blob)
    assert ask([["tensors", str(tmp_path / "file"), str(tmp_path / "again")]]) == [tensors_hash(tensors)]
    assert (tmp_path / "again").read_bytes() == blob


def damaged(bundle, tmp_path):
    """Copies of a bundle, each with a fault, by name."""

    def copy(name):
        return shutil.copytree(bundle.path, tmp_path / name, copy_function=os.link)

    def rewritten(name, change):
        folder = copy(name)
        fields = json.loads((folder / "manifest.json").read_text())
        change(fields)
        (folder / "manifest.json").unlink()
        (folder / "manifest.json").write_bytes(render_manifest(fields))
        return folder

    def replaced(name, file, content):
        folder = copy(name)
        (folder / file).unlink()
        (folder / file).write_bytes(content)
        return folder

    file = bundle.manifest.programs[0].file
    text = (bundle.path / "manifest.json").read_bytes()
    places = {
        "nowhere": tmp_path / "nowhere",
        "empty": tmp_path / "empty",
        "no program": copy("no-program"),
        "wrong hash": replaced("wrong-hash", file, (bundle.path / file).read_bytes()[:-1] + b"x"),
        "wrong size": replaced("wrong-size", file, b"x"),
        "link": copy("link"),
        "one letter": replaced("one-letter", "manifest.json", text.replace(b'"model"', b'"m\\u006fdel"')),
        "one space": replaced("one-space", "manifest.json", text + b" "),
        "cut": replaced("cut", "manifest.json", text[: len(text) // 2]),
        "version": rewritten("version", lambda fields: None),
        "outside": rewritten("outside", lambda fields: fields["programs"][0].update(file="../x")),
        "absolute": rewritten("absolute", lambda fields: fields["programs"][0].update(file="/etc/passwd")),
        "drive": rewritten(
            "drive", lambda fields: fields["files"].update({"c:x": fields["files"]["salience.safetensors"]})
        ),
        "label": rewritten("label", lambda fields: fields.update(labels=["\x1b[31m"] * len(fields["labels"]))),
        "density": rewritten("density", lambda fields: fields.update(densities=[0.5, 0.5])),
        "port": rewritten("port", lambda fields: fields["programs"][0]["outputs"][0].update(shape=[1, 3])),
        "fit": rewritten("fit", lambda fields: fields["input"].update(fit="squash")),
        "background": rewritten("background", lambda fields: fields["input"].update(background=[0, 0, 256])),
        "colours": rewritten("colours", lambda fields: fields["input"].update(background=[0, 0])),
        "level": rewritten("level", lambda fields: fields.update(default_level=2)),
        "layer": rewritten("layer", lambda fields: fields["layers"][1].update(out_channels=0)),
        "kernel": rewritten("kernel", lambda fields: fields["programs"][0].update(kernel_layers=["nothing"])),
        "tail": rewritten("tail", lambda fields: fields.update(tail={"trainable": "head", "layers": ["x"]})),
        "training": rewritten("training", lambda fields: fields["training"].update(x=[1])),
        "whole": rewritten("whole", lambda fields: fields.update(default_level=True)),
    }
    (tmp_path / "empty").mkdir()
    (tmp_path / "no-program" / file).unlink()
    (tmp_path / "link" / file).unlink()
    (tmp_path / "link" / file).symlink_to(bundle.path / file)
    version = json.loads(text) | {"version": 2}
    (tmp_path / "version" / "manifest.json").write_text(json.dumps(version))
    return places


def test_broken_bundles_are_refused_in_the_same_words(ask, bundle, tmp_path):
    places = damaged(bundle, tmp_path)
    answers = ask([["bundle", str(bundle.path)], *(["bundle", str(place)] for place in places.values())])
    assert answers[0] == bundle.manifest.digest
    for name, answer in zip(places, answers[1:], strict=True):
        assert isinstance(answer, dict) and "\n" not in answer["refused"], (name, answer)
        with pytest.raises(FedgateError) as python:
            load_bundle(places[name])
        if name not in ("cut", "tail"):  # a parser's own words, and which of two faults is told first
            # they quote a stranger's texts differently
            assert answer["refused"].replace('"', "'") == str(python.value).replace('"', "'").replace(
                "\\x1b", "\\u001b"
            ), name


def test_damaged_records_are_refused(ask, bundle, tmp_path):
    reference, salience = (read_tensors(bundle.path / f"{name}.safetensors") for name in ("reference", "salience"))
    layer = macs.gated(bundle.manifest.layers)[0].name
    faults = [
        ("reference", {"masked/0/open": np.full_like(reference[0]["masked/0/open"], 2)}, "must hold only 0 and 1"),
        ("reference", {"masked/0/gate": -1 - reference[0]["masked/0/gate"]}, "must not be negative"),
        ("reference", {"image": reference[0]["image"] * np.float32(np.nan)}, "not finite"),
        ("reference", {"masked/1/logits": reference[0]["masked/1/logits"][:, :3]}, "'masked/1/logits' is float32"),
        ("reference", {"labelled/label": reference[0]["labelled/label"] + 9}, "must be below 10"),
        ("reference", {"labelled/image": reference[0]["labelled/image"][1:]}, "'labelled/label' is int64"),
        (
            "salience",
            {f"global/opened/{layer}": salience[0][f"global/opened/{layer}"] + 10**6},
            "more often than it had",
        ),
        ("salience", {"global/other": np.zeros(1)}, "belongs to no layer"),
    ]
    requests = []
    for index, (file, change, _) in enumerate(faults):
        tensors, meta = reference if file == "reference" else salience
        blob = pack(tensors | change, meta)
        folder = shutil.copytree(bundle.path, tmp_path / str(index))
        (folder / f"{file}.safetensors").write_bytes(blob)
        fields = json.loads((folder / "manifest.json").read_text())
        digest = hashlib.sha256(blob).hexdigest()
        fields["files"][f"{file}.safetensors"] = {"sha256": digest, "bytes": len(blob)}
        (folder / "manifest.json").write_bytes(render_manifest(fields))
        requests.append(["bundle", str(folder)])
    for answer, (_, _, text) in zip(ask(requests), faults, strict=True):
        assert text in answer["refused"]


def test_macs_under_masks(ask, bundle):
    layers = bundle.manifest.layers
    masks = np.random.default_rng(1).integers(0, 2, (5, macs.mask_width(layers)), dtype=np.uint8)
    (answer,) = ask([["macs", str(bundle.path), [mask.tobytes().hex() for mask in masks]]])
    expected = macs.executed(layers, masks)
    assert answer["executed"] == [{name: int(counts[i]) for name, counts in expected.items()} for i in range(5)]
    assert answer["nominal"] == [macs.nominal(layers, density) for density in bundle.manifest.densities]


def test_statistics_are_the_benchs(ask):
    draw = np.random.default_rng(3)
    samples = [draw.lognormal(size=n).tolist() for n in (1, 2, 3, 5, 6, 12, 13, 60, 100, 1000, 2001)]
    samples.append([1.0, 1.0, 2.0, 2.0, 2.0, 3.0])
    for values, answer in zip(samples, ask(["statistics", values] for values in samples), strict=True):
        expected = [*np.percentile(values, [0, 10, 50, 90, 99, 100]), *median_interval(np.array(values))]
        assert answer == pytest.approx(expected, rel=1e-15)


def test_random_draws_are_numpys(ask):
    seeds = [[0, 0], [3, 1], [2**32 - 1, 5], [2**40 + 7, 0x5EED], [2**63 - 1, 9]]
    sizes = [1, 2, 10, 1000]
    expected = []
    for seed in seeds:
        generator = np.random.default_rng(seed)
        expected.append([generator.permutation(np.arange(n)).tolist() for n in sizes])
    assert ask(["permutations", seed, sizes] for seed in seeds) == expected
    cases = [(50, 16, 3, 0), (7, 7, 1, 2), (33, 8, 2**50, 4)]
    assert ask(["batches", *case] for case in cases) == [
        [rows.tolist() for rows in batches(np.arange(n), size, seed, epoch)] for n, size, seed, epoch in cases
    ]
    labels = np.random.default_rng(4).integers(0, 4, 41)
    for share in (0.2, 0.5):
        chosen, held = held_out(labels, np.arange(41), share, 11)
        assert ask([["held out", labels.tolist(), share, 11]]) == [[chosen.tolist(), held.tolist()]]


def test_damaged_files_never_crash_the_reader(harness, bundle):
    counts = harness.run("org.fedgate.harness.Fuzz", bundle.path, 1, 700)
    read, refused = map(int, counts.split())
    assert read > 50 and refused > 1000
