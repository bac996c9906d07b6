"""From a dataset to what a network sees: float batches, augmented for training.

Shapes: B samples, V views, C channels, H x W pixels.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Generator, Tensor

from tcl_lib.config import RunConfig
from tcl_lib.data.augment import augment
from tcl_lib.data.images import MIRRORED, ImageData


def normalise(images: Tensor, data: ImageData) -> Tensor:
    """uint8 [B, C, H, W] -> float, mean 0 and deviation 1 a channel over the training part, channels last."""
    mean, std = (moment.to(images.device)[:, None, None] for moment in data.mean_and_std)
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)


def training_batches(
    data: ImageData, config: RunConfig, epoch: int, device: torch.device | str = "cpu"
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of an epoch: float [V*B, C, H, W], view by view, and labels [B].

    Order and augmentation follow from `seed` and `epoch` alone. The images that do not fill the last batch
    are left out (other ones every epoch); a training part smaller than a batch is one batch.
    """
    generator = Generator().manual_seed(config.seed * 1_000_003 + epoch)
    order = torch.randperm(len(data.train.labels), generator=generator)
    for batch in range(steps_per_epoch(data, config)):
        chosen = order[batch * config.batch_size : (batch + 1) * config.batch_size]
        images = data.train.images[chosen].to(device)
        views = [training_view(images, config, generator) for _ in range(config.views)]
        yield normalise(torch.cat(views), data), data.train.labels[chosen].to(device)


def steps_per_epoch(data: ImageData, config: RunConfig) -> int:
    """Batches an epoch."""
    return max(1, len(data.train.labels) // config.batch_size)


def training_view(images: Tensor, config: RunConfig, generator: Generator) -> Tensor:
    """One view of every image as a run's parameters have it: uint8 [B, C, H, W] -> uint8."""
    if not config.augment:
        return images
    flip = MIRRORED[config.dataset] if config.flip is None else config.flip
    return augment(images, generator, flip=flip, cutout=config.cutout, autoaugment=config.autoaugment)


def preview(data: ImageData, config: RunConfig, count: int = 8) -> np.ndarray:
    """The first training images as stored and as a run would augment them: uint8 [1 + V, count, C, H, W]."""
    images = data.train.images[:count]
    generator = Generator().manual_seed(config.seed)
    rows = [images, *(training_view(images, config, generator) for _ in range(config.views))]
    return torch.stack(rows).numpy()
