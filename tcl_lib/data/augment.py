"""Augmentation of image batches on their device, with independent random draws for every sample.

Shapes: B samples, C channels, H x W pixels. All draws come from a CPU generator, so that a seed
gives the same views on every device.
"""

import torch
from torch import Tensor
from torchvision.transforms.v2 import AutoAugment, AutoAugmentPolicy

from tcl_lib.data.draws import Draws
from tcl_lib.utils.devices import to_device


def augment(images: Tensor, draws: Draws, *, flip: bool, cutout: int, autoaugment: bool) -> Tensor:
    """Return one augmented view of every image: uint8 [B, C, H, W] -> uint8 [B, C, H, W].

    The steps are AutoAugment (optional), a shift by up to an eighth of the side (4 of 32 pixels) with a
    reflected border, a horizontal flip of half of the images (optional), and a grey square with a side of
    `cutout` pixels.
    """
    if autoaugment:
        images = _autoaugment(images, draws)
    height, width = images.shape[-2:]
    images = crop_and_flip(images, (height // 8, width // 8), flip, draws)
    return erase_square(images, cutout, draws) if cutout else images


def crop_and_flip(images: Tensor, padding: tuple[int, int], flip: bool, draws: Draws) -> Tensor:
    """Shift by up to `padding` rows and columns with a reflected border, and flip half of the images.

    All of it is one gather, as it only changes the row and column a pixel comes from: [B, C, H, W].
    """
    batch, channels, height, width = images.shape

    def shifted(size: int, padding: int) -> Tensor:
        shift = draws.integers(-padding, padding + 1, 1)
        index = (torch.arange(size) + shift).abs()  # [B, size], reflected at the first pixel
        return (size - 1) - (size - 1 - index).abs()  # ... and at the last

    rows, columns = shifted(height, padding[0]), shifted(width, padding[1])
    if flip:
        heads = draws.uniform(1) < 0.5
        columns = torch.where(heads, columns.flip(1), columns)
    device = images.device
    return images[
        torch.arange(batch, device=device)[:, None, None, None],
        torch.arange(channels, device=device)[None, :, None, None],
        to_device(rows, device)[:, None, :, None],
        to_device(columns, device)[:, None, None, :],
    ]


def erase_square(images: Tensor, side: int, draws: Draws) -> Tensor:
    """Return the images with a grey square in each (Cutout, DeVries & Taylor 2017, arXiv 1708.04552).

    The centre of the square may be any pixel, so that parts of it may lie outside: [B, C, H, W].
    """
    squares = draws.squares(*images.shape[-2:], side, centre=side // 2)
    return images.masked_fill(to_device(squares[:, None], images.device), 128)


def _autoaugment(images: Tensor, draws: Draws) -> Tensor:
    policy, idle = (kind(AutoAugmentPolicy.CIFAR10) for kind in (AutoAugment, _Idle))
    seed = int(torch.randint(0, 2**31, (), generator=draws.generator))
    with torch.random.fork_rng(devices=[]):  # torchvision draws from torch's global generator
        torch.manual_seed(seed)
        for _ in range(draws.rows.start or 0):  # of samples that other processes hold
            idle(images[0])
        return torch.stack([policy(image) for image in images])


class _Idle(AutoAugment):
    """Draws what AutoAugment draws for an image, and does nothing."""

    def _apply_image_or_video_transform(self, image: Tensor, *arguments, **options) -> Tensor:
        return image
