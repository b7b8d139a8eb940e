"""Pictures become the input that training had, and predictions say what ran."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from fedgate.device_runtime.errors import FedgateError, UsageError
from fedgate.device_runtime.formats import macs
from fedgate.device_runtime.images import load_image
from fedgate.device_runtime.predict import predict, softmax
from fedgate.device_runtime.selection import Selection
from fedgate.device_runtime.tables import strip


def save(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


def test_a_picture_of_the_right_size_is_only_normalised(bundle, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    found = load_image(save(tmp_path / "a.png", pixels), bundle.manifest)
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.25, 0.3])
    want = ((torch.from_numpy(pixels) / 255 - mean) / std).permute(2, 0, 1)[None]
    assert found.dtype == np.float32 and np.allclose(found, want.numpy(), atol=1e-6)


def test_gray_sixteen_bit_and_palette_pictures_give_the_same_input(bundle, tmp_path):
    gray = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    want = load_image(save(tmp_path / "rgb.png", np.stack([gray] * 3, -1)), bundle.manifest)
    deep = gray.astype(np.uint16) * 256
    Image.fromarray(gray).convert("P").save(tmp_path / "palette.png")
    for path in (save(tmp_path / "gray.png", gray), save(tmp_path / "deep.png", deep), tmp_path / "palette.png"):
        assert np.array_equal(load_image(path, bundle.manifest), want), path


def test_a_camera_that_was_turned(bundle, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown rotated by 90 degrees clockwise
    turned = load_image(save(tmp_path / "t.png", pixels, exif=exif), bundle.manifest)
    assert np.array_equal(turned, load_image(save(tmp_path / "u.png", np.rot90(pixels, -1).copy()), bundle.manifest))


def test_unreadable_pictures(bundle, tmp_path):
    good = io.BytesIO()
    Image.fromarray(np.zeros((50, 50, 3), np.uint8)).save(good, "PNG")
    (tmp_path / "cut.png").write_bytes(good.getvalue()[:60])
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    for name in ("cut.png", "text.png", "empty.png", "none.png", "."):
        with pytest.raises(FedgateError, match="cannot read the picture") as caught:
            load_image(tmp_path / name, bundle.manifest)
        assert "\n" not in str(caught.value)


def test_folders_and_damaged_pictures(bundle, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    for name in ("a/1.png", "a/deep/2.png", "3.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        save(tmp_path / name, pixels)
    (tmp_path / "a" / "cut.png").write_bytes((tmp_path / "3.png").read_bytes()[:50])
    (tmp_path / "a" / "notes.txt").write_text("x")
    result = predict(bundle, [tmp_path / "3.png", tmp_path / "a", tmp_path / "none.png"], Selection(role="dense"))
    good, bad = ("3.png", "a/1.png", "a/deep/2.png"), ("a/cut.png", "none.png")
    assert [row["image"] for row in result["images"]] == [str(tmp_path / name) for name in good]
    assert [row["image"] for row in result["unreadable"]] == [str(tmp_path / name) for name in bad]
    assert all("cannot read the picture" in row["reason"] for row in result["unreadable"])
    assert result["left_out"] == ["left out, no pictures: notes.txt"]
    with pytest.raises(FedgateError, match=r"cut\.png: .* \(and 1 more\)"):
        predict(bundle, [tmp_path / "a" / "cut.png", tmp_path / "none.png"])
    (tmp_path / "b").mkdir()
    with pytest.raises(FedgateError, match="b holds no pictures"):
        predict(bundle, [tmp_path / "b"])


def test_prediction_of_every_role(bundle, picture):
    dense_total = macs.total(macs.dense(bundle.manifest.layers))
    for role, density, share in (("masked", 0.5, None), ("static", None, 0.344), ("dense", None, 1.0)):
        result = predict(bundle, [picture], Selection(role=role, density=density))
        (row,) = result["images"]
        assert sum(row["probabilities"].values()) == pytest.approx(1)
        assert row["probability"] == max(row["probabilities"].values()) == row["probabilities"][row["class"]]
        if share is not None:
            assert row["asked_share_of_dense"] == pytest.approx(share, abs=1e-3) and row["layers"] == []
        else:
            opened = [len(layer["open"]) for layer in row["layers"]]
            assert 0 < opened[0] <= 8 and 0 < opened[1] <= 12
            # by hand: stem, both convolutions with their gates, head
            by_hand = 13824 + 8 * (opened[0] * 9 * 64 + 16) + opened[0] * (opened[1] * 9 * 64 + 24) + opened[1] * 5
            assert row["asked_macs"] == by_hand and row["asked_share_of_dense"] == by_hand / dense_total


def test_runtimes_agree_on_a_picture(bundle, picture):
    rows = [predict(bundle, [picture], Selection(runtime))["images"][0] for runtime in ("litert", "onnx", "executorch")]
    assert rows[0]["layers"] == rows[1]["layers"] == rows[2]["layers"]
    for row in rows[1:]:
        assert row["probability"] == pytest.approx(rows[0]["probability"], rel=1e-4)


def test_unknown_names_and_levels_list_the_known(bundle, picture):
    for options, known in (
        ({"runtime": "x"}, "known: executorch, litert, onnx"),
        ({"role": "x"}, "known: dense, masked, skip, static"),
        ({"role": "skip"}, "it has: executorch dense"),
        ({"level": 2}, "0: 0.25, 1: 0.5"),
        ({"density": 0.3}, "0: 0.25, 1: 0.5"),
        ({"level": 0, "density": 0.5}, "not both"),
    ):
        with pytest.raises(UsageError) as caught:
            predict(bundle, [picture], Selection(**options))
        assert known in str(caught.value)


def test_softmax_of_large_logits():
    assert softmax(np.float32([1000, 1000, -1000])).tolist() == [0.5, 0.5, 0]


def test_strip_shows_the_open_share():
    assert strip([0, 3], 4) == "█··█"
    assert strip([], 128) == "·" * 64 and strip(range(128), 128) == "█" * 64
    assert strip(range(0, 128, 2), 128) == "▄" * 64
    assert len(strip([5], 100)) == 64
