"""Reading data: known contents come back, splits are fixed, and every damage is one clear line."""

import hashlib
import io
import os
import socket
import subprocess
import sys
import tarfile
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from fedgate.device_runtime.errors import FedgateError, UsageError
from fedgate.train.data.cifar_binary import CLASSES, FILE_MD5S, FOLDER, read_cifar_binary, read_records
from fedgate.train.data.decoding import Encoded, Reading, decode_images
from fedgate.train.data.load import load_data, mean_std, stratified_split

REPOSITORY = Path(__file__).parents[2]
CIFAR = Path(os.environ.get("FEDGATE_CIFAR10", REPOSITORY.parent / "shared" / "data" / "cifar10-jpeg75"))
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def private_cache_and_no_network(tmp_path, monkeypatch):
    """Every test reads afresh, and fails if anything asks the network."""

    def refuse(*args):
        raise AssertionError(f"tried the network: {args}")

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def pixels(*shape):
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def png(array, **options):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG", **options)
    return file.getvalue()


def write_folder(root, classes, images, side=8, channels=(3,)):
    """Random PNG images root/CLASS/I.png; returns {class: array (images, side, side, 3)}."""
    written = {}
    for name in classes:
        (root / name).mkdir(parents=True)
        written[name] = pixels(images, side, side, *channels)
        for i, image in enumerate(written[name]):
            (root / name / f"{i:03}.png").write_bytes(png(image))
    return written


def write_parquet(root, n=20, **columns):
    root.mkdir(exist_ok=True)
    images = pixels(n, 6, 7, 3)
    rows = {"image": [{"bytes": png(image), "path": None} for image in images], **columns}
    features = datasets.Features({"image": datasets.Image()})
    for name, values in columns.items():
        kind = "string" if isinstance(values[0], str) else "int64"
        features[name] = datasets.ClassLabel(names=["no", "yes"]) if name == "label" else datasets.Value(kind)
    datasets.Dataset.from_dict(rows, features=features).to_parquet(root / "train-00000-of-00001.parquet")
    return images


def test_digits_are_scikit_learns():
    data = load_data("digits")
    digits = load_digits()
    assert data.train_images.shape == (1437, 1, 8, 8) and data.test_images.shape == (360, 1, 8, 8)
    everything = torch.cat([data.train_images, data.test_images]).double().mul(16 / 255).round()
    labels = torch.cat([data.train_labels, data.test_labels])
    rows = sorted([label, *image.flatten().tolist()] for label, image in zip(labels.tolist(), everything, strict=True))
    assert rows == sorted([int(label), *image] for label, image in zip(digits.target, digits.data, strict=True))
    assert (data.name, data.augment, data.labels) == ("digits", "none", list("0123456789"))
    assert data.test_labels.bincount().tolist() == pytest.approx([36] * 10, abs=1)
    assert torch.equal(load_data("digits").test_images, data.test_images)


def test_mean_and_std_are_those_of_the_pixels():
    images = torch.from_numpy(pixels(50, 3, 9, 5))
    images[:, 2] = 77
    mean, std = mean_std(images)
    scaled = images.double() / 255
    assert mean == pytest.approx(scaled.mean((0, 2, 3)).tolist(), abs=1e-12)
    assert std[:2] == pytest.approx(scaled.std((0, 2, 3), correction=0)[:2].tolist(), abs=1e-12)
    assert std[2] == 1 / 255  # constant: normalising must stay finite


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


def decode(*arrays, size=None):
    """The pixels of pictures by `decode_images`, and its notes."""
    pictures = [Encoded(a if isinstance(a, bytes) else png(a), f"image {i}") for i, a in enumerate(arrays)]
    images, read, notes = decode_images(pictures, Reading(size))
    assert read.all()
    return images, notes


def test_images_of_one_size_stay_as_they_are():
    arrays = [pixels(30, 20, 3), pixels(30, 20, 3)]
    images, notes = decode(*arrays)
    assert notes == () and np.array_equal(images.permute(0, 2, 3, 1), arrays)


@pytest.mark.parametrize(("shapes", "size", "side"), [([(30, 20), (20, 30)], None, 224), ([(8, 8)], 12, 12)])
def test_other_images_become_centre_squares(shapes, size, side):
    arrays = []
    for height, width in shapes:  # black, but for the centre square
        array = np.zeros((height, width, 3), np.uint8)
        edge = min(height, width)
        top, left = (height - edge) // 2, (width - edge) // 2
        array[top : top + edge, left : left + edge] = 200
        arrays.append(array)
    images, notes = decode(*arrays, size=size)
    assert images.shape == (len(shapes), 3, side, side)
    inner = slice(side // 9, -(side // 9))  # interpolation blends the outermost pixels with what was cut off
    assert (images[:, :, inner, inner] == 200).all()
    assert f"{side}x{side}" in notes[0]


def test_large_images_of_one_size_are_reduced():
    images, notes = decode(pixels(300, 400, 3))
    assert images.shape == (1, 3, 224, 224) and "224x224" in notes[0]


def test_one_colour_image_makes_all_three_channels():
    gray, colour = pixels(8, 8), pixels(8, 8, 3)
    assert np.array_equal(decode(gray)[0][0, 0], gray)
    images, _ = decode(gray, colour)
    assert np.array_equal(images[0].permute(1, 2, 0), np.stack([gray] * 3, axis=2))
    assert np.array_equal(images[1].permute(1, 2, 0), colour)


def test_exif_rotation_is_applied():
    array = pixels(8, 12, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # shot with the camera turned: show it rotated clockwise
    images, _ = decode(png(array, exif=exif))
    assert np.array_equal(images[0].permute(1, 2, 0), np.rot90(array, -1))


def test_sixteen_bit_images_keep_their_upper_bits():
    array = RNG.integers(0, 2**16, (8, 8), dtype=np.uint16)
    assert np.array_equal(decode(array)[0][0, 0], array >> 8)


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


@pytest.mark.parametrize("name", ["mnits", "./nowhere", "/nowhere/at/all", "a/b/c"])
def test_unknown_name_lists_the_known(name):
    with pytest.raises(UsageError, match=r"no data '.*'digits', a folder .*'owner/name', cifar-10-binary.tar.gz"):
        load_data(name)


def test_hub_name_offline_is_one_line():
    script = "from fedgate.train.data.load import load_data; load_data('nobody-here/no-such-data')"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert "FedgateError: cannot read 'nobody-here/no-such-data'" in last and "offline" in last.lower()


def test_hub_that_cannot_be_reached_is_one_line(monkeypatch):
    def unreachable(*args, **kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    for proxy in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
        monkeypatch.delenv(proxy.lower(), raising=False)
    with pytest.raises(FedgateError, match=r"neither a known name nor a folder, .*hub cannot be reached"):
        load_data("nobody-here/no-such-data")


def records(n):
    labels, images = RNG.integers(0, 10, n).astype(np.uint8), pixels(n, 3, 32, 32)
    return (
        b"".join(bytes([label]) + image.tobytes() for label, image in zip(labels, images, strict=True)),
        images,
        labels,
    )


def test_cifar_records():
    blob, images, labels = records(5)
    got_images, got_labels = read_records(blob)
    assert np.array_equal(got_images, images) and np.array_equal(got_labels, labels)
    with pytest.raises(FedgateError, match="no whole number"):
        read_records(blob[:-1])


def test_cifar_archive_and_folder(tmp_path):
    files = {name: records(4) for name in FILE_MD5S}
    archive, folder = tmp_path / "cifar-10-binary.tar.gz", tmp_path / FOLDER
    folder.mkdir()
    for name, (blob, *_) in files.items():
        (folder / name).write_bytes(blob)
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, FOLDER)
    archive_md5 = hashlib.md5(archive.read_bytes()).hexdigest()
    file_md5s = {name: hashlib.md5(blob).hexdigest() for name, (blob, *_) in files.items()}
    for path in (archive, folder):
        source = read_cifar_binary(path, archive_md5, file_md5s)
        assert source.labels == CLASSES and len(source.train.images) == 20
        assert np.array_equal(source.train.images[4:8], files["data_batch_2.bin"][1])
        assert np.array_equal(source.test.images, files["test_batch.bin"][1])
        assert np.array_equal(source.test.labels, files["test_batch.bin"][2])
        # By name the published MD5s count, and these files are not the published ones.
        with pytest.raises(UsageError, match=r"is not part of the official cifar-10-binary\.tar\.gz"):
            load_data(str(path))
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(FedgateError, match=r"cannot read .*data_batch_3\.bin"):
        load_data(str(folder))


def test_columns_are_for_data_that_has_them():
    with pytest.raises(UsageError, match="leave label, group, image, size, background"):
        load_data("digits", group="writer")


@pytest.mark.skipif(not CIFAR.is_dir(), reason=f"no CIFAR-10 in the hub's layout at {CIFAR} (or in FEDGATE_CIFAR10)")
def test_cifar10_in_the_hubs_layout():
    data = load_data(str(CIFAR))
    assert data.labels == CLASSES and data.augment == "crop-flip"
    assert data.train_images.shape == (50000, 3, 32, 32) and data.test_images.shape == (10000, 3, 32, 32)
    assert data.train_labels.bincount().tolist() == [5000] * 10
    assert data.train_labels[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]  # the official order
    # The statistics of CIFAR-10 that are in everyone's code.
    assert data.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=2e-3)
    assert data.std == pytest.approx((0.2470, 0.2435, 0.2616), abs=4e-3)
