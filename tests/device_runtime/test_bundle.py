"""Bundles on disk: whole or not there, and changed or foreign files refused."""

import os
from pathlib import Path

import numpy as np
import pytest
import tiny_bundle

from fedgate.device_runtime.engines import load_program, open_program
from fedgate.device_runtime.errors import FedgateError, UsageError
from fedgate.device_runtime.formats.bundle import load_bundle, write_bundle
from fedgate.device_runtime.formats.records import LABELLED, REFERENCE_META, SALIENCE_META, load_reference
from fedgate.device_runtime.formats.tensors import pack, read_tensors


def test_one_changed_byte_in_any_file_is_refused(copy):
    for path in sorted(copy.iterdir()):
        before = path.read_bytes()
        for place in (0, len(before) // 2, len(before) - 1):
            path.write_bytes(before[:place] + bytes([before[place] ^ 1]) + before[place + 1 :])
            with pytest.raises(FedgateError) as caught:
                load_bundle(copy)
            assert "\n" not in str(caught.value)
        path.write_bytes(before)
    load_bundle(copy)


def test_a_longer_or_missing_file_is_refused(copy):
    program = copy / "litert-dense.tflite"
    program.write_bytes(program.read_bytes() + b"x")
    with pytest.raises(FedgateError, match="changed"):
        load_bundle(copy)
    program.unlink()
    with pytest.raises(FedgateError, match=r"has no litert-dense\.tflite"):
        load_bundle(copy)


@pytest.mark.parametrize("name", ["litert-dense.tflite", "reference.safetensors", "manifest.json"])
@pytest.mark.parametrize("inside", [True, False])
def test_a_link_is_refused_wherever_it_leads(copy, tmp_path, name, inside):
    target = (copy if inside else tmp_path) / "elsewhere"
    (copy / name).rename(target)
    (copy / name).symlink_to(target)
    with pytest.raises(FedgateError, match="is refused: it is a link"):
        load_bundle(copy)


@pytest.mark.parametrize("name", ["litert-dense.tflite", "manifest.json"])
def test_what_is_no_file_is_refused_and_not_waited_for(copy, name):
    (copy / name).unlink()
    os.mkfifo(copy / name)
    with pytest.raises(FedgateError, match="no regular file"):
        load_bundle(copy)
    (copy / name).unlink()
    (copy / name).mkdir()
    with pytest.raises(FedgateError, match=r"Is a directory|no regular file"):
        load_bundle(copy)


def test_a_file_that_is_longer_than_any_program_is_not_read(copy):
    program = copy / "litert-dense.tflite"
    os.truncate(program, 2**40)  # sparse
    with pytest.raises(FedgateError, match="is larger than 2147483647 bytes"):
        load_bundle(copy)


@pytest.mark.parametrize("runtime", ["executorch", "litert", "onnx"])
def test_a_program_that_was_swapped_after_the_loading_is_not_run(copy, runtime):
    loaded = load_bundle(copy)
    (program,) = (p for p in loaded.manifest.programs if p.runtime == runtime and p.role == "dense")
    (other,) = (p for p in loaded.manifest.programs if p.runtime == runtime and p.role == "masked")
    loaded.file(program.file).write_bytes(loaded.read(other.file))
    with pytest.raises(FedgateError, match="was changed after it was written"):
        load_program(loaded, program)
    loaded.file(program.file).unlink()
    loaded.file(program.file).symlink_to(loaded.file(other.file))
    with pytest.raises(FedgateError, match="is a link"):
        load_program(loaded, program)


@pytest.mark.parametrize("name", ["reference", "salience"])
def test_records_that_were_swapped_after_the_loading_are_not_read(copy, name):
    loaded = load_bundle(copy)
    loaded.file(f"{name}.safetensors").write_bytes(b"")
    with pytest.raises(FedgateError, match="was changed after it was written"):
        getattr(loaded, name)()


def test_a_program_in_memory_does_not_see_its_file_change(copy):
    loaded = load_bundle(copy)
    image = loaded.reference().image[:1]
    for program in (p for p in loaded.manifest.programs if p.role == "dense"):
        running = open_program(loaded, program)
        want = running.run(image)[0]
        with open(loaded.file(program.file), "r+b") as file:
            file.truncate(16)
        assert np.array_equal(running.run(image)[0], want)


def test_what_is_no_bundle_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(FedgateError, match="is not a bundle"):
            load_bundle(path)


def test_a_bundle_reached_by_a_link_loads(copy, tmp_path):
    (tmp_path / "link.fedgate").symlink_to(copy)
    assert load_bundle(tmp_path / "link.fedgate").manifest.model == "tiny"


def test_same_content_gives_the_same_files(bundle, changed):
    again = changed()
    for path in bundle.path.iterdir():
        assert again.file(path.name).read_bytes() == path.read_bytes()


def test_an_existing_path_is_kept(bundle, tmp_path):
    target = tmp_path / "b.fedgate"
    tiny_bundle.rewrite(bundle, target, {}, {})
    fields, files = (
        tiny_bundle.raw_fields(bundle),
        {p.name: p for p in bundle.path.iterdir() if "manifest" not in p.name},
    )
    with pytest.raises(UsageError, match="exists"):
        write_bundle(target, fields, files)
    write_bundle(target, fields | {"model": "other"}, files, overwrite=True)
    assert load_bundle(target).manifest.model == "other"
    (tmp_path / "precious").mkdir()
    with pytest.raises(UsageError, match="not a bundle"):
        write_bundle(tmp_path / "precious", fields, files, overwrite=True)
    assert sorted(os.listdir(tmp_path)) == ["b.fedgate", "precious"]


def test_a_failed_write_leaves_nothing_new(bundle, tmp_path):
    target = tmp_path / "b.fedgate"
    tiny_bundle.rewrite(bundle, target, {}, {})
    fields, files = (
        tiny_bundle.raw_fields(bundle),
        {p.name: p for p in bundle.path.iterdir() if "manifest" not in p.name},
    )
    del files["litert-dense.tflite"]
    for wrong in (fields, fields | {"labels": []}):
        with pytest.raises(FedgateError):
            write_bundle(target, wrong, {**files, "../out": b""} if wrong is fields else files, overwrite=True)
    assert os.listdir(tmp_path) == ["b.fedgate"]
    assert load_bundle(target).manifest.model == "tiny"


def test_records_are_checked(bundle, changed):
    reference, _ = read_tensors(bundle.file("reference.safetensors"))
    salience, _ = read_tensors(bundle.file("salience.safetensors"))
    wrong = [
        ("has no", "masked/1/open", None),
        ("not float32", "image", reference["image"].astype(np.float64)),
        ("not finite", "dense/logits", reference["dense/logits"] * np.nan),
        ("only 0 and 1", "masked/0/open", reference["masked/0/open"] + np.uint8(2)),
        ("negative", "masked/0/gate", reference["masked/0/gate"] - np.float32(9)),
        ("no reference images", "image", reference["image"][:0]),
    ]
    for reason, name, value in wrong:
        tensors = {key: item for key, item in {**reference, name: value}.items() if item is not None}
        with pytest.raises(FedgateError, match=reason):
            changed(files={"reference.safetensors": pack(tensors, REFERENCE_META)})
    labelled = dict(zip(LABELLED, (np.zeros((2, 3, 8, 8), np.uint8), np.array([0, 4])), strict=True))
    data = pack(reference | labelled, REFERENCE_META)
    whole = load_reference(data, Path("reference.safetensors"), bundle.manifest)
    assert whole.labels.tolist() == [0, 4] and whole.labelled.shape == (2, 3, 8, 8)
    for reason, change in (
        ("has no 'labelled/image'", {"labelled/image": None}),
        ("has no 'labelled/label'", {"labelled/label": None}),
        ("not uint8", {"labelled/image": labelled["labelled/image"][:, :1]}),
        ("not int64", {"labelled/label": np.array([0])}),
        ("must be below 5", {"labelled/label": np.array([0, 5])}),
        ("must be below 5", {"labelled/label": np.array([-1, 0])}),
    ):
        tensors = {key: item for key, item in (reference | labelled | change).items() if item is not None}
        with pytest.raises(FedgateError, match=reason):
            changed(files={"reference.safetensors": pack(tensors, REFERENCE_META)})
    wrong = [
        ("more often", "global/samples", salience["global/samples"] * 0),
        ("belongs to no", "other/opened/one", salience["global/opened/one"]),
        ("negative", "global/strength/two", -1 - salience["global/strength/two"]),
        ("not int64", "global/opened/one", salience["global/opened/one"][:1]),
    ]
    for reason, name, value in wrong:
        with pytest.raises(FedgateError, match=reason):
            changed(files={"salience.safetensors": pack({**salience, name: value}, SALIENCE_META)})
    with pytest.raises(FedgateError, match="fedgate-reference"):
        changed(files={"reference.safetensors": pack(reference, SALIENCE_META)})
