"""Parquet as people write it: with the hub's metadata and without, and what the columns and files are called."""

import io

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fedgate.device_runtime.errors import FedgateError, UsageError
from fedgate.train.data.load import load_data
from fedgate.train.data.unlabelled import load_unlabelled

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (20, 6, 7, 3), dtype=np.uint8)


def png(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


BYTES = [png(array) for array in PIXELS]


def write(path, **columns):
    """Write columns as plain parquet, without anything of the hub's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path.parent


def structs(images=BYTES):
    return [{"bytes": content, "path": None} for content in images]


def held(data):
    """The labels of all examples by name, in the order of `PIXELS`."""
    found = {}
    for images, labels in ((data.train_images, data.train_labels), (data.test_images, data.test_labels)):
        for image, label in zip(images.permute(0, 2, 3, 1).numpy(), labels.tolist(), strict=True):
            found[next(i for i in range(20) if np.array_equal(PIXELS[i], image))] = data.labels[label]
    return [found[i] for i in sorted(found)]


@pytest.mark.parametrize("images", [BYTES, structs()], ids=["bytes", "structs"])
def test_pictures_without_metadata(tmp_path, images):
    data = load_data(str(write(tmp_path / "d" / "data.parquet", photo=images, kind=["cat", "dog"] * 10)))
    assert data.labels == ["cat", "dog"] and held(data) == ["cat", "dog"] * 10
    assert "the labels are those of the column 'kind', the only one that can hold classes" in data.notes


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([-1, 2**40, 3, 20] * 5, ["-1", "3", "20", str(2**40)]),
        (["b", "a10", "a9", "é"] * 5, ["a10", "a9", "b", "é"]),
        ([True, False] * 10, ["False", "True"]),
        (pa.array(["x", "y"] * 10).dictionary_encode(), ["x", "y"]),
    ],
    ids=["numbers", "texts", "flags", "categories"],
)
def test_labels_of_any_kind(tmp_path, values, names):
    data = load_data(str(write(tmp_path / "d" / "data.parquet", image=BYTES, label=values)))
    assert data.labels == names
    assert held(data) == [str(value) for value in (values.to_pylist() if isinstance(values, pa.Array) else values)]


def test_classes_of_splits_are_matched_by_name(tmp_path):
    for split, names, labels in (
        ("train", ["ant", "bee", "cow"], [0, 1, 2, 0]),
        ("test", ["cow", "ant"], [0, 1, 0, 1]),
    ):
        features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=names)})
        rows = {"img": structs(BYTES[:4] if split == "train" else BYTES[4:8]), "label": labels}
        (tmp_path / "d").mkdir(exist_ok=True)
        datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "d" / f"{split}.parquet")
    data = load_data(str(tmp_path / "d"))
    assert data.labels == ["ant", "bee", "cow"]
    assert held(data) == ["ant", "bee", "cow", "ant", "cow", "ant", "cow", "ant"]


def test_classes_that_train_lacks_are_refused(tmp_path):
    write(tmp_path / "d" / "train.parquet", image=BYTES[:10], label=["a", "b"] * 5)
    write(tmp_path / "d" / "test.parquet", image=BYTES[10:], label=["a", "z"] * 5)
    with pytest.raises(UsageError, match=r"the test split of .* has classes that train lacks: z"):
        load_data(str(tmp_path / "d"))


def test_test_split_without_labels_is_not_one(tmp_path):
    write(tmp_path / "d" / "train.parquet", image=BYTES[:10], label=[0, 1] * 5)
    write(tmp_path / "d" / "test.parquet", image=BYTES[10:], label=[-1] * 10)
    data = load_data(str(tmp_path / "d"))
    assert len(data.train_images) + len(data.test_images) == 10
    assert "not used: the split 'test' (10 images)" in data.notes


def test_several_columns_of_pictures(tmp_path):
    folder = str(write(tmp_path / "d" / "d.parquet", before=BYTES, after=BYTES[::-1], label=[0, 1] * 10))
    with pytest.raises(UsageError, match="several columns of pictures: choose one with --image: before, after"):
        load_data(folder)
    assert held(load_data(folder, image="before")) == ["0", "1"] * 10
    assert held(load_data(folder, image="after")) == ["1", "0"] * 10
    with pytest.raises(UsageError, match=r"'label' of .* are no pictures"):
        load_data(folder, image="label")
    with pytest.raises(UsageError, match="no column 'during'; known: before, after, label"):
        load_data(folder, image="during")


def test_a_path_in_place_of_a_picture(tmp_path):
    images = [{"bytes": None if i == 5 else content, "path": f"p/{i}.png"} for i, content in enumerate(BYTES)]
    write(tmp_path / "d" / "d.parquet", image=images, y=[0, 1] * 10)
    with pytest.raises(FedgateError, match=r"no image for p/5\.png \(example 5 of the train split\): wanted"):
        load_data(str(tmp_path / "d"))


def test_pictures_beside_tables_are_refused(tmp_path):
    write(tmp_path / "d" / "d.parquet", image=BYTES, y=[0, 1] * 10)
    (tmp_path / "d" / "cat").mkdir()
    (tmp_path / "d" / "cat" / "0.png").write_bytes(BYTES[0])
    with pytest.raises(UsageError, match=r"holds pictures \(cat/0\.png\) and parquet files \(d\.parquet\)"):
        load_data(str(tmp_path / "d"))


def test_splits_by_the_names_of_files_and_folders(tmp_path):
    for i, name in enumerate(
        ["train-00000-of-00002", "train-00001-of-00002", "default/test/0000", "extra-00000-of-00001", "my_valid"]
    ):
        write(tmp_path / "d" / f"{name}.parquet", image=BYTES[4 * i : 4 * i + 4], label=[0, 1, 0, 1])
    data = load_data(str(tmp_path / "d"))
    assert (len(data.train_images), len(data.test_images)) == (8, 4)
    assert "not used: the split 'extra' (4 images) and 'validation' (4 images)" in data.notes
    write(tmp_path / "e" / "train-test.parquet", image=BYTES, label=[0, 1] * 10)
    with pytest.raises(UsageError, match="could be of the splits test and train: rename it"):
        load_data(str(tmp_path / "e"))


def test_two_data_sets_in_one_folder(tmp_path):
    write(tmp_path / "d" / "a" / "train.parquet", image=BYTES, label=[0, 1] * 10)
    write(tmp_path / "d" / "b" / "train.parquet", image=BYTES, other=[0, 1] * 10)
    with pytest.raises(FedgateError, match=r"more than one data set: .* have different columns"):
        load_data(str(tmp_path / "d"))


def test_nothing_to_look_at_or_to_learn(tmp_path):
    write(tmp_path / "d" / "d.parquet", text=["a"] * 20, label=[0, 1] * 10)
    with pytest.raises(FedgateError, match=r"has no column of pictures \(columns: text, label\)"):
        load_data(str(tmp_path / "d"))
    write(tmp_path / "e" / "d.parquet", image=BYTES, weight=[0.5] * 20)
    with pytest.raises(UsageError, match="no column of class labels: choose one of the columns image, weight"):
        load_data(str(tmp_path / "e"))
    with pytest.raises(UsageError, match=r"column 'weight' of .* which are no classes"):
        load_data(str(tmp_path / "e"), label="weight")


def test_damaged_pictures_are_all_named_or_left_out(tmp_path):
    images = [b"junk" if i in (3, 4, 17) else content for i, content in enumerate(BYTES)]
    folder = str(write(tmp_path / "d" / "d.parquet", image=images, label=[0, 1] * 10, by=["ann", "bob"] * 10))
    with pytest.raises(FedgateError, match=r"cannot read 3 of 20 pictures: .*example 3 .*example 4 .*example 17 "):
        load_data(folder, label="label")
    data = load_data(folder, label="label", group="by", skip_unreadable=True)
    assert held(data) == [str(i % 2) for i in range(20) if i not in (3, 4, 17)]
    assert [data.labels[k] for k in data.train_labels] == [{"ann": "0", "bob": "1"}[g] for g in data.train_groups]
    assert "left out, cannot be read: (example 3 of the train split)" in data.warnings[0]


def test_unlabelled_tables(tmp_path):
    folder = str(write(tmp_path / "d" / "test.parquet", image=BYTES))
    images, warnings = load_unlabelled(folder, (3, 6, 7), "white")
    assert np.array_equal(images.permute(0, 2, 3, 1), PIXELS) and warnings == ()
