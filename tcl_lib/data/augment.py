"""Augmentation of a batch: every sample drawn for itself, all samples in one pass, on the batch's device.

Shapes: B samples, C channels, H x W pixels. Every draw comes from the CPU generator passed in, so a seed
gives the same views on every device.
"""

import torch
from torch import Generator, Tensor
from torchvision.transforms.v2 import AutoAugment, AutoAugmentPolicy


def augment(images: Tensor, generator: Generator, *, flip: bool, cutout: int, autoaugment: bool) -> Tensor:
    """One augmented view of every image: uint8 [B, C, H, W] -> uint8 [B, C, H, W].

    AutoAugment if asked for, a crop shifted by up to an eighth of the side (4 pixels of 32) with the border
    reflected, a horizontal flip of every other image, and a grey square of `cutout` pixels a side.
    """
    if autoaugment:
        images = _autoaugment(images, generator)
    height, width = images.shape[-2:]
    images = crop_and_flip(images, (height // 8, width // 8), flip, generator)
    return erase_square(images, cutout, generator) if cutout else images


def crop_and_flip(images: Tensor, padding: tuple[int, int], flip: bool, generator: Generator) -> Tensor:
    """Shift by up to `padding` rows and columns, the border reflected, and flip half of them: [B, C, H, W].

    One gather: a shift, a reflection and a flip only say from which row and column a pixel comes.
    """
    batch, channels, height, width = images.shape

    def shifted(size: int, padding: int) -> Tensor:
        shift = torch.randint(-padding, padding + 1, (batch, 1), generator=generator)
        index = (torch.arange(size) + shift).abs()  # [B, size], reflected at the first pixel
        return (size - 1) - (size - 1 - index).abs()  # ... and at the last

    rows, columns = shifted(height, padding[0]), shifted(width, padding[1])
    if flip:
        heads = torch.rand(batch, 1, generator=generator) < 0.5
        columns = torch.where(heads, columns.flip(1), columns)
    device = images.device
    return images[
        torch.arange(batch, device=device)[:, None, None, None],
        torch.arange(channels, device=device)[None, :, None, None],
        rows.to(device)[:, None, :, None],
        columns.to(device)[:, None, None, :],
    ]


def erase_square(images: Tensor, side: int, generator: Generator) -> Tensor:
    """Cutout (DeVries & Taylor 2017, arXiv 1708.04552): [B, C, H, W] with a mid-grey square in each.

    The square's centre is any pixel, so at the border only a part of it falls on the image.
    """
    batch, _, height, width = images.shape

    def covered(size: int) -> Tensor:
        first = torch.randint(0, size, (batch, 1), generator=generator) - side // 2
        index = torch.arange(size)
        return (index >= first) & (index < first + side)  # [B, size]

    rows, columns = covered(height), covered(width)
    square = rows[:, None, :, None] & columns[:, None, None, :]  # [B, 1, H, W]
    return images.masked_fill(square.to(images.device), 128)


def _autoaugment(images: Tensor, generator: Generator) -> Tensor:
    policy = AutoAugment(AutoAugmentPolicy.CIFAR10)
    seed = int(torch.randint(0, 2**31, (), generator=generator))
    with torch.random.fork_rng(devices=[]):  # torchvision draws from torch's global generator
        torch.manual_seed(seed)
        return torch.stack([policy(image) for image in images])
