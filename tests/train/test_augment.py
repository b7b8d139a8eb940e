"""Augmentation against a naive loop over images, and normalisation against its formula."""

import pytest
import torch

from fedgate.device_runtime.errors import UsageError
from fedgate.train.data.augment import augment, normalise

torch.set_num_threads(1)


def batch(n, c, h, w, device="cpu"):
    return torch.randint(1, 256, (n, c, h, w), generator=torch.Generator().manual_seed(1), dtype=torch.uint8).to(device)


def naive_crops(image, pad):
    """Every (top, left, mirrored) crop of one padded image (C, H, W), pixel by pixel."""
    c, h, w = image.shape
    padded = torch.zeros(c, h + 2 * pad, w + 2 * pad, dtype=torch.uint8)
    for y in range(h):
        for x in range(w):
            padded[:, y + pad, x + pad] = image[:, y, x]
    for top in range(2 * pad + 1):
        for left in range(2 * pad + 1):
            crop = torch.stack([padded[:, top + y, left : left + w] for y in range(h)], dim=1)
            yield (top, left, False), crop
            yield (top, left, True), torch.stack([crop[:, :, w - 1 - x] for x in range(w)], dim=2)


@pytest.mark.parametrize(("shape", "pad"), [((3, 32, 32), 4), ((1, 8, 8), 1), ((3, 16, 12), 2)])
@pytest.mark.parametrize("how", ["crop", "crop-flip"])
def test_each_image_is_one_of_its_naive_crops(shape, pad, how):
    images = batch(12, *shape)
    result = augment(images, how, torch.Generator().manual_seed(3))
    assert result.shape == images.shape and result.dtype == torch.uint8
    drawn = []
    for image, got in zip(images, result, strict=True):
        matches = [draw for draw, crop in naive_crops(image, pad) if torch.equal(crop, got)]
        assert len(matches) == 1
        drawn += matches
    assert len({(top, left) for top, left, _ in drawn}) > 3  # each image has an offset of its own
    assert any(mirrored for *_, mirrored in drawn) == (how == "crop-flip")


def test_offsets_and_flips_are_uniform():
    n = 20000
    marked = torch.zeros(n, 1, 8, 8, dtype=torch.uint8)
    marked[:, :, 4, 2] = 1
    result = augment(marked, "crop-flip", torch.Generator().manual_seed(0))
    _, _, rows, columns = result.nonzero(as_tuple=True)
    assert len(rows) == n  # one pixel of padding never pushes the mark out
    assert torch.bincount(rows, minlength=8)[3:6].div(n).sub(1 / 3).abs().max() < 0.02
    left = torch.bincount(columns, minlength=8).div(n)  # columns 1..3 as drawn, 4..6 mirrored
    assert left[1:7].sub(1 / 6).abs().max() < 0.02


def test_the_generator_decides():
    images = batch(8, 3, 32, 32)
    first, again, other = (augment(images, "crop-flip", torch.Generator().manual_seed(s)) for s in (5, 5, 6))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert augment(images, "none", torch.Generator()) is images


def test_unknown_augmentation_lists_the_known():
    with pytest.raises(UsageError, match="unknown augmentation 'mixup'; known: none, crop, crop-flip"):
        augment(batch(1, 1, 8, 8), "mixup", torch.Generator())


def test_normalise_is_the_formula():
    images = batch(4, 3, 8, 8)
    mean, std = (0.49, 0.48, 0.1), (0.25, 0.01, 0.9)
    want = torch.stack([(images[:, c].double() / 255 - mean[c]) / std[c] for c in range(3)], dim=1)
    got = normalise(images, mean, std)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_equals_cpu():
    for how in ("crop", "crop-flip"):
        cpu, cuda = (augment(batch(16, 3, 32, 32, d), how, torch.Generator().manual_seed(2)) for d in ("cpu", "cuda"))
        assert torch.equal(cpu, cuda.cpu())
