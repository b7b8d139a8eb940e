"""Folders of pictures and parquet files: known contents come back, splits are fixed, and damage is one clear line."""

import numpy as np
import pytest
import torch
from picture_data import write_folder, write_parquet

from fedgate.device_runtime.errors import FedgateError, UsageError
from fedgate.train.data.load import load_data, stratified_split

pytestmark = pytest.mark.usefixtures("private_cache_and_no_network")


def test_stratified_split_refuses_a_class_of_one():
    with pytest.raises(FedgateError, match="class 'b' has a single image"):
        stratified_split(torch.tensor([0, 0, 0, 1]), ["a", "b"])


def test_folder_with_train_and_test(tmp_path):
    train = write_folder(tmp_path / "pets" / "train", ["cat", "dog"], 5)
    test = write_folder(tmp_path / "pets" / "test", ["cat", "dog"], 2)
    data = load_data(str(tmp_path / "pets"))
    assert (data.name, data.labels, data.augment, data.notes) == ("pets", ["cat", "dog"], "crop-flip", ())
    for images, labels, written in (
        (data.train_images, data.train_labels, train),
        (data.test_images, data.test_labels, test),
    ):
        for label, name in enumerate(data.labels):
            assert np.array_equal(images[labels == label].permute(0, 2, 3, 1), written[name])


def test_folder_without_a_test_split_holds_a_fixed_fifth_out(tmp_path, capfd):
    write_folder(tmp_path / "shapes", ["disc", "square"], 10, channels=())
    data = load_data(str(tmp_path / "shapes"))
    assert data.train_images.shape == (16, 1, 8, 8) and data.augment == "crop"
    assert data.test_labels.bincount().tolist() == [2, 2]
    assert data.notes == ("no test split: a fixed stratified 20% of the examples is held out as one",)
    assert capfd.readouterr() == ("", "")  # no progress bars, no logs


def test_validation_serves_as_test(tmp_path):
    write_folder(tmp_path / "pets" / "train", ["cat", "dog"], 4)
    write_folder(tmp_path / "pets" / "val", ["cat", "dog"], 3)
    data = load_data(str(tmp_path / "pets"))
    assert len(data.train_images) == 8 and len(data.test_images) == 6
    assert "the split 'validation' is used" in data.notes[0]


def test_class_folder_called_train_is_refused_not_taken_for_a_split(tmp_path):
    write_folder(tmp_path / "traffic", ["bus", "train", "truck"], 4)
    with pytest.raises(UsageError, match=r"the class 'bus' lies beside 'train'.*none .* may be called train"):
        load_data(str(tmp_path / "traffic"))


def test_parquet_with_groups_and_a_label_by_name(tmp_path):
    writers = ["ann", "bob"] * 10
    images = write_parquet(tmp_path / "d", label=[0, 1] * 10, writer=writers, digit=[7, 3, 3, 7] * 5)
    data = load_data(str(tmp_path / "d"), label="digit", group="writer")
    assert data.labels == ["3", "7"] and data.group == "writer" and data.train_images.shape == (16, 3, 6, 7)
    for image, label, writer in zip(data.train_images, data.train_labels, data.train_groups, strict=True):
        i = next(i for i in range(20) if np.array_equal(images[i], image.permute(1, 2, 0)))
        assert (writer, label) == (writers[i], [1, 0, 0, 1][i % 4])
    assert load_data(str(tmp_path / "d")).labels == ["no", "yes"]
    with pytest.raises(UsageError, match="no column 'user'; known: image, label, writer, digit"):
        load_data(str(tmp_path / "d"), group="user")


def test_unlabelled_examples_are_refused(tmp_path):
    write_parquet(tmp_path / "d", label=[0, 1, -1, 1] * 5)
    with pytest.raises(FedgateError, match="5 of 20 examples have no 'label'"):
        load_data(str(tmp_path / "d"))


@pytest.mark.parametrize("damage", ["truncated", "junk"])
def test_corrupt_image_is_named(tmp_path, damage):
    write_folder(tmp_path / "pets", ["cat", "dog"], 3, side=40)
    broken = tmp_path / "pets" / "dog" / "001.png"
    broken.write_bytes(broken.read_bytes()[:1500] if damage == "truncated" else b"junk")
    with pytest.raises(FedgateError, match=r"cannot read the picture .*dog/001.png: .*repair or remove it") as caught:
        load_data(str(tmp_path / "pets"))
    assert "\n" not in str(caught.value)


def test_truncated_parquet_is_named(tmp_path, capfd):
    write_parquet(tmp_path / "d", label=[0, 1] * 10)
    path = tmp_path / "d" / "train-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    capfd.readouterr()
    with pytest.raises(FedgateError, match=r"cannot read '.*train-00000-of-00001.parquet'") as caught:
        load_data(str(tmp_path / "d"))
    assert "\n" not in str(caught.value) and capfd.readouterr() == ("", "")


def test_empty_folder(tmp_path):
    with pytest.raises(FedgateError, match=r"holds no pictures by class, .* and no parquet files"):
        load_data(str(tmp_path))
