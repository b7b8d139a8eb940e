"""Labelled images: folders by class and recorded samples, good, odd and hostile."""

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fedgate.device_runtime.errors import FedgateError, UsageError
from fedgate.device_runtime.formats.tensors import pack, write_tensors
from fedgate.device_runtime.images import load_pixels
from fedgate.device_runtime.tuning.examples import load_examples, write_samples


@pytest.fixture
def folder(tmp_path, manifest):
    """Three images of the bundle's first label and two of its third."""
    random = np.random.default_rng(0)
    for label, names in ((0, "abc"), (2, "ab")):
        place = tmp_path / "data" / manifest.labels[label]
        place.mkdir(parents=True)
        for name in names:
            Image.fromarray(random.integers(0, 256, (9, 11, 3), dtype=np.uint8)).save(place / f"{name}.png")
    return tmp_path / "data"


def test_a_folder_in_order_without_what_is_hidden(folder, manifest):
    first = folder / manifest.labels[0]
    (first / ".DS_Store").write_bytes(b"x")
    (folder / ".cache").mkdir()
    (folder / "notes.txt").write_text("not a class")
    examples = load_examples(folder, manifest)
    assert examples.labels.tolist() == [0, 0, 0, 2, 2] and len(examples) == 5
    assert examples.names[1] == f"{manifest.labels[0]}/b.png"
    pixels = examples.pixels(1)
    assert pixels.dtype == np.uint8 and pixels.shape == (8, 8, 3)
    assert np.array_equal(pixels, load_pixels(first / "b.png", manifest))
    assert [note.split(":")[0] for note in examples.left_out] == [
        "left out, hidden, or a system's own",
        "left out, no pictures",
    ]


def test_the_digest_is_of_names_and_contents(folder, manifest):
    first = folder / manifest.labels[0]
    digest = load_examples(folder, manifest).digest
    os.utime(first / "a.png", (1, 1))
    assert load_examples(folder, manifest).digest == digest
    (first / "a.png").rename(first / "z.png")
    renamed = load_examples(folder, manifest).digest
    with open(first / "z.png", "ab") as file:
        file.write(b"\0")
    assert len({digest, renamed, load_examples(folder, manifest).digest}) == 3


def test_what_cannot_be_read_is_said_when_it_is_asked_for(folder, manifest):
    (folder / manifest.labels[2] / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n, then rubbish")
    examples = load_examples(folder, manifest)
    assert len(examples) == 5
    with pytest.raises(FedgateError, match=r"cannot read the picture .*b\.png"):
        examples.pixels(4)


def test_wrong_requests(folder, manifest, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FedgateError, match=r"looked for as .*/CLASS/IMAGE"):
        load_examples(tmp_path / "empty", manifest)
    with pytest.raises(UsageError, match="no data at"):
        load_examples(tmp_path / "nowhere", manifest)
    (folder / "unheard-of").mkdir()
    assert any("unheard-of" in note for note in load_examples(folder, manifest).left_out)
    (folder / "unheard-of" / "a.png").write_bytes(b"x")
    with pytest.raises(UsageError, match=f"'unheard-of'; known: {manifest.labels[0]}"):
        load_examples(folder, manifest)


def test_a_hostile_file_name_is_not_printed_as_it_is(folder, manifest):
    (folder / manifest.labels[0] / "\x1b[2J\n.png").write_bytes(b"")
    examples = load_examples(folder, manifest)
    assert all(name.isprintable() for name in examples.names)


def test_recorded_samples_are_their_own_classes(tmp_path, manifest):
    names = [manifest.labels[3], manifest.labels[1]]
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 8, 8), dtype=np.uint8)
    write_samples(tmp_path / "s.safetensors", images, [0, 1, 1, 0], names)
    examples = load_examples(tmp_path / "s.safetensors", manifest)
    assert examples.labels.tolist() == [3, 1, 1, 3]
    assert np.array_equal(examples.pixels(2), images[2].transpose(1, 2, 0))


def samples(manifest, **changed):
    """The tensors and metadata of good samples, with changes."""
    tensors = {"images": np.zeros((2, 3, 8, 8), np.uint8), "labels": np.zeros(2, np.int64)}
    meta = {"format": "fedgate-samples", "version": 1, "labels": [manifest.labels[0]]}
    tensors |= {name: value for name, value in changed.items() if name in tensors}
    return tensors, meta | {key: value for key, value in changed.items() if key not in tensors}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"images": np.zeros((2, 3, 8, 9), np.uint8)}, "uint8"),
        ({"images": np.zeros((2, 3, 8, 8), np.float32)}, "uint8"),
        ({"labels": np.zeros(3, np.int64)}, "one for each image"),
        ({"labels": np.array([0, 1])}, "outside its 1 classes"),
        ({"labels": np.array([0, -1])}, "outside its 1 classes"),
        ({"images": np.zeros((0, 3, 8, 8), np.uint8), "labels": np.zeros(0, np.int64)}, "no images"),
        ({"format": "other"}, "'format'"),
        ({"version": 2}, "'version'"),
        ({"labels_": None}, None),
    ],
)
def test_damaged_samples(tmp_path, manifest, change, reason):
    path = tmp_path / "s.safetensors"
    write_tensors(path, *samples(manifest, **change))
    if reason is None:  # an unknown key of a later version
        assert len(load_examples(path, manifest)) == 2
        return
    with pytest.raises(FedgateError, match=reason):
        load_examples(path, manifest)


def test_unknown_classes_of_samples(tmp_path, manifest):
    tensors, meta = samples(manifest)
    for odd in ("unheard-of", 3, ["a"], None):
        write_tensors(tmp_path / "s.safetensors", tensors, meta | {"labels": [odd]})
        with pytest.raises(UsageError, match="unknown class"):
            load_examples(tmp_path / "s.safetensors", manifest)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_file_of_samples_does_worse_than_a_refusal(tmp_path, manifest, data):
    blob = bytearray(pack(*samples(manifest)))
    for _ in range(data.draw(st.integers(1, 4))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    blob = bytes(blob)[: data.draw(st.integers(0, len(blob)))] if data.draw(st.booleans()) else bytes(blob)
    path = tmp_path / "s.safetensors"
    path.write_bytes(blob)
    try:
        examples = load_examples(path, manifest)
    except FedgateError as error:
        assert str(error).isprintable()
    else:
        assert examples.pixels(len(examples) - 1).shape == (8, 8, 3)
