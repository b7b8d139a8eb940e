"""Random crops and flips of a whole batch at once, and the step from stored pixels to a network's input."""

import torch
import torch.nn.functional as F

from fedgate.device_runtime.errors import choose

AUGMENTATIONS = ("none", "crop", "crop-flip")


def augment(images: torch.Tensor, how: str, generator: torch.Generator) -> torch.Tensor:
    """Crop each image at a random offset after zero padding, and mirror half of them.

    images: uint8 (N, C, H, W), on any device. how: "none" returns them as they are, "crop" shifts, "crop-flip"
    also mirrors left to right. The padding is 4 pixels from 32 rows on (the usual CIFAR recipe: He et al., CVPR
    2016, section 4.2) and H // 8, at least 1, below. The draws come from `generator`, on its own device, so a CPU
    generator gives the same batch on every device. Returns a tensor like `images`. Unknown `how`: UsageError.
    """
    choose("augmentation", how, AUGMENTATIONS)
    if how == "none":
        return images
    n, _, height, width = images.shape
    pad = padding(height)
    offsets = torch.randint(0, 2 * pad + 1, (2, n), generator=generator, device=generator.device)
    top, left = offsets.to(images.device)
    # Every possible crop as a view (N, C, 2 pad + 1, 2 pad + 1, H, W); indexing copies only the one drawn.
    windows = F.pad(images, (pad, pad, pad, pad)).unfold(2, height, 1).unfold(3, width, 1)
    crops = windows[torch.arange(n, device=images.device), :, top, left]  # (N, C, H, W)
    if how == "crop":
        return crops
    mirror = torch.rand(n, generator=generator, device=generator.device) < 0.5
    return torch.where(mirror.to(images.device).view(-1, 1, 1, 1), crops.flip(3), crops)


def padding(height: int) -> int:
    """Pixels of zero padding on each side before a crop of `height` rows."""
    return 4 if height >= 32 else max(1, height // 8)


def normalise(images: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    """uint8 (N, C, H, W) -> float32 (N, C, H, W): (pixel / 255 - mean) / std, with C values of mean and std."""
    # In units of the stored pixels: one pass fewer, and torch's division of uint8 by a number is ten times slower.
    shape = (-1, 1, 1)
    shift = torch.tensor(mean, dtype=torch.float64).mul(255).float().view(shape).to(images.device)
    scale = torch.tensor(std, dtype=torch.float64).mul(255).float().view(shape).to(images.device)
    return images.to(torch.float32).sub_(shift).div_(scale)
