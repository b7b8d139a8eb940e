"""Folders of pictures as data sets: what is read, what is told, and that devices see the same pixels."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from many_pictures import make_pictures, write_pictures
from PIL import Image

from fedgate.device_runtime.errors import FedgateError, UsageError
from fedgate.device_runtime.images import load_pixels
from fedgate.device_runtime.tuning.examples import load_examples
from fedgate.train.config.resolve import resolve
from fedgate.train.data.decoding import Encoded, Reading, decode_images, read_images
from fedgate.train.data.load import load_data
from fedgate.train.data.unlabelled import load_unlabelled
from fedgate.train.ingredients import describe_run, run_data

RNG = np.random.default_rng(0)
ROSE = (255, 0, 127)


def photos(root, classes, count=5, side=8):
    for name in classes:
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(RNG.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(root / name / f"{i}.png")
    return root


@pytest.mark.parametrize("shape", [(3, 24, 24), (1, 24, 24), (3, 17, 40)], ids=str)
def test_a_device_sees_what_training_saw(tmp_path, shape):
    paths = write_pictures(tmp_path / "d" / "cat")
    manifest = SimpleNamespace(shape=(1, *shape), background=ROSE, labels=("cat", "dog"))
    examples = load_examples(tmp_path / "d", manifest)
    assert len(examples) == len(paths) > 50 and examples.left_out == ()
    trained = read_images([Encoded(str(path), path.name) for path in paths], shape, ROSE).permute(0, 2, 3, 1).numpy()
    for path, pixels in zip(paths, trained, strict=True):
        index = examples.names.index(f"cat/{path.name}")
        assert np.array_equal(load_pixels(path, manifest), pixels), path.name
        assert np.array_equal(examples.pixels(index), pixels), path.name
    if shape == (3, 24, 24):
        images, _, notes = decode_images([Encoded(str(path), path.name) for path in paths], Reading(24, ROSE))
        assert np.array_equal(images.permute(0, 2, 3, 1), trained)
        assert notes == ("images are scaled and cropped to 24x24",)


def test_gray_and_transparent_pictures_stay_gray_on_a_gray_ground():
    pictures = make_pictures()
    chosen = [Encoded(pictures[name], name) for name in ("gray.png", "clear-gray.png", "bits.png", "deep.png")]
    assert decode_images(chosen, Reading())[0].shape == (4, 1, 30, 20)
    assert decode_images(chosen, Reading(background=(9, 9, 9)))[0].shape == (4, 1, 30, 20)
    assert decode_images(chosen, Reading(background=ROSE))[0].shape == (4, 3, 30, 20)
    assert decode_images([*chosen, Encoded(pictures["colour.png"], "colour")], Reading())[0].shape == (5, 3, 30, 20)


def test_left_out_files_and_classes_are_told(tmp_path):
    photos(tmp_path / "d", ["cat", "dog"])
    (tmp_path / "d" / "owl").mkdir()
    (tmp_path / "d" / "cat" / "0.txt").write_text("a cat")
    (tmp_path / "d" / "dog" / "4.png").write_bytes(b"")
    with pytest.raises(FedgateError, match=r"dog/4\.png: it is empty; repair or remove it, or give --skip-unreadable"):
        load_data(str(tmp_path / "d"))
    data = load_data(str(tmp_path / "d"), skip_unreadable=True)
    assert len(data.train_images) + len(data.test_images) == 9 and data.labels == ["cat", "dog"]
    assert set(data.warnings) == {
        "left out, no pictures: cat/0.txt",
        "left out, classes without a picture: owl",
        f"left out, cannot be read: {tmp_path / 'd' / 'dog' / '4.png'}",
    }


def test_a_class_whose_pictures_are_all_damaged_is_told(tmp_path):
    photos(tmp_path / "d", ["ant", "bee", "cow"])
    for path in (tmp_path / "d" / "bee").iterdir():
        path.write_bytes(b"x")
    data = load_data(str(tmp_path / "d"), skip_unreadable=True)
    assert data.labels == ["ant", "cow"] and sorted(data.train_labels.unique().tolist()) == [0, 1]
    assert "left out, classes without a picture: bee" in data.warnings


def test_all_damaged_pictures_are_named_at_once(tmp_path):
    photos(tmp_path / "d", ["cat", "dog"], 40)
    for i in range(3, 33):
        (tmp_path / "d" / "cat" / f"{i}.png").write_bytes(b"x")
    with pytest.raises(FedgateError, match="cannot read 30 of 80 pictures") as caught:
        load_data(str(tmp_path / "d"))
    assert all(f"cat/{i}.png: not a picture" in str(caught.value) for i in range(3, 33))


def test_splits_with_other_classes(tmp_path):
    photos(tmp_path / "d" / "Train", ["cat", "dog"])
    photos(tmp_path / "d" / "TEST", ["dog"])
    photos(tmp_path / "d" / "val", ["cat"], 2)
    data = load_data(str(tmp_path / "d"))
    assert (len(data.train_images), data.test_labels.tolist()) == (10, [1] * 5)
    assert "not used: the split 'validation' (2 images)" in data.notes
    photos(tmp_path / "d" / "TEST", ["yak"])
    with pytest.raises(UsageError, match=r"the test split of .* has classes that train lacks: yak"):
        load_data(str(tmp_path / "d"))


def test_one_class_and_none(tmp_path):
    photos(tmp_path / "d" / "photos", ["cat", "dog"])
    with pytest.raises(UsageError, match=r"one class, 'photos', .* if its classes lie deeper, give .*/d/photos"):
        load_data(str(tmp_path / "d"))
    (tmp_path / "e").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "e" / "1.png")
    with pytest.raises(FedgateError, match=r"no pictures by class.*outside any class: 1\.png"):
        load_data(str(tmp_path / "e"))
    with pytest.raises(UsageError, match="holds pictures by class and no columns"):
        load_data(str(tmp_path / "d" / "photos"), label="x")


def test_background(tmp_path):
    for name, colour in (("clear", 0), ("solid", 255)):
        (tmp_path / "d" / name).mkdir(parents=True)
        for i in range(5):
            Image.new("RGBA", (8, 8), (0, 0, 0, colour)).save(tmp_path / "d" / name / f"{i}.png")
    for background, seen in (("white", [255, 255, 255]), ("#ff007f", list(ROSE)), ("1,2,3", [1, 2, 3])):
        data = load_data(str(tmp_path / "d"), background=background)
        assert data.train_images[data.train_labels == 0][0, :, 4, 4].tolist() == seen[: data.train_images.shape[1]]
    with pytest.raises(UsageError, match="'no-colour' is no colour"):
        resolve(background="no-colour")
    with pytest.raises(UsageError, match="leave label, group, image, size, background"):
        load_data("digits", background="black")


def test_unlabelled_folders(tmp_path):
    photos(tmp_path / "flat", ["."], 3)
    (tmp_path / "flat" / "notes.txt").write_text("x")
    images, warnings = load_unlabelled(str(tmp_path / "flat"), (3, 8, 8), "white")
    assert images.shape == (3, 3, 8, 8) and warnings == ("left out, no pictures: notes.txt",)
    photos(tmp_path / "split" / "train", ["cat"], 2)
    photos(tmp_path / "split" / "test", ["cat"], 4)
    assert len(load_unlabelled(str(tmp_path / "split"), (1, 8, 8), "white")[0]) == 2
    (tmp_path / "none").mkdir()
    with pytest.raises(FedgateError, match="holds no images"):
        load_unlabelled(str(tmp_path / "none"), (3, 8, 8), "white")


def test_data_that_moved_are_known_by_their_hash(tmp_path):
    config = resolve(data=str(photos(tmp_path / "here", ["cat", "dog"])), clients=2, partition="iid")
    info = describe_run(config, load_data(config.data))
    (tmp_path / "here").rename(tmp_path / "there")
    with pytest.raises(UsageError, match="if the run's data lie elsewhere now, name the place with --data"):
        run_data(info)
    data, parts = run_data(info, tmp_path / "there")
    assert data.sha256 == info.data["sha256"] and sum(map(len, parts)) == len(data.train_images)
    photos(tmp_path / "other", ["cat", "dog"])
    with pytest.raises(UsageError, match="other' holds other data than this run was trained on"):
        run_data(info, tmp_path / "other")
    (tmp_path / "there" / "dog").rename(tmp_path / "there" / "fox")  # the same pixels under another name
    with pytest.raises(UsageError, match="holds other data"):
        run_data(info, tmp_path / "there")
    assert dataclasses.replace(config, data="digits").data == "digits"


def test_a_folder_whose_name_is_no_utf8(tmp_path):
    photos(tmp_path / "d\udce9", ["cat", "dog"])
    with pytest.raises(UsageError, match=r"--data '.*d\udce9' is not UTF-8: give it another name, or a link to it"):
        resolve(data=str(tmp_path / "d\udce9"))
    (tmp_path / "link\n").symlink_to(tmp_path / "d\udce9")
    assert load_data(str(tmp_path / "link\n")).name == "link\\n"


def test_a_folder_called_as_a_built_in_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_data("digits").notes == ()
    photos(tmp_path / "digits", ["cat", "dog"])
    assert load_data("digits").notes == ("'digits' are scikit-learn's; give ./digits for the one of that name here",)
    assert load_data("./digits").labels == ["cat", "dog"]
