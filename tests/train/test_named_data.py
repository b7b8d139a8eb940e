"""Data by name: digits and CIFAR-10 are the published ones, and what has no such name is told in one line."""

import hashlib
import os
import socket
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from picture_data import RNG, pixels
from sklearn.datasets import load_digits

from fedgate.device_runtime.errors import FedgateError, UsageError
from fedgate.train.data.cifar_binary import CLASSES, FILE_MD5S, FOLDER, read_cifar_binary, read_records
from fedgate.train.data.load import load_data

REPOSITORY = Path(__file__).parents[2]
CIFAR = Path(os.environ.get("FEDGATE_CIFAR10", REPOSITORY.parent / "shared" / "data" / "cifar10-jpeg75"))
pytestmark = pytest.mark.usefixtures("private_cache_and_no_network")


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


def test_columns_are_for_data_that_has_them():
    with pytest.raises(UsageError, match="leave label, group, image, size, background"):
        load_data("digits", group="writer")


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
