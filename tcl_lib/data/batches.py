"""From a dataset to what a network learns from. Shapes: T time steps, B samples, V views, C x H x W."""

from collections.abc import Iterator

import torch
from torch import Generator, Tensor

from tcl_lib.config import RunConfig
from tcl_lib.data.parts import Data


def training_batches(
    data: Data, config: RunConfig, epoch: int, device: torch.device | str = "cpu"
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of an epoch: float [V*B, C, H, W] of images or [T, V*B, C, H, W] of frames; labels [B].

    View by view. Order and augmentation follow from `seed` and `epoch` alone. The samples that do not fill
    the last batch are left out (other ones every epoch); a training part smaller than a batch is one batch.
    """
    generator = Generator().manual_seed(config.seed * 1_000_003 + epoch)
    order = torch.randperm(len(data.train), generator=generator)
    for batch in range(steps_per_epoch(data, config)):
        chosen = order[batch * config.batch_size : (batch + 1) * config.batch_size]
        stored = data.train[chosen].to(device)
        yield data.views(stored, config, generator), data.train.labels[chosen].to(device)


def steps_per_epoch(data: Data, config: RunConfig) -> int:
    """Batches an epoch."""
    return max(1, len(data.train) // config.batch_size)
