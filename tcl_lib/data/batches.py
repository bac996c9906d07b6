"""Batches of a training epoch. Shapes: T time steps, B samples, V views, C x H x W."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Generator, Tensor

from tcl_lib.config import RunConfig
from tcl_lib.data.parts import Data

# Streams of random numbers. numpy pads seeds with zeros: without a tag, the order of an epoch and the
# augmentation of its batch 0 would share one.
ORDER, AUGMENTATION = 1, 2


def training_batches(
    data: Data, config: RunConfig, epoch: int, device: torch.device | str = "cpu", start: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Return the batches of an epoch: float [V*B, C, H, W] images or [T, V*B, C, H, W] frames; labels [B].

    A batch holds one view of all samples after another. The first batch is number `start`, counted from 0.
    `seed` and `epoch` determine the order of the samples; with the batch's number, they determine its
    augmentation. Samples that do not fill the last batch are left out, different ones in every epoch. A
    training part smaller than a batch is one batch.
    """
    order = torch.randperm(len(data.train), generator=_generator(config, ORDER, epoch))
    for batch in range(start, steps_per_epoch(data, config)):
        generator = _generator(config, AUGMENTATION, epoch, batch)
        chosen = order[batch * config.batch_size : (batch + 1) * config.batch_size]
        stored = data.train[chosen].to(device)
        yield data.views(stored, config, generator), data.train.labels[chosen].to(device)


def _generator(config: RunConfig, *numbers: int) -> Generator:
    """Return a generator seeded with the config's seed and these numbers."""
    seed = np.random.SeedSequence([config.seed, *numbers]).generate_state(1, np.uint64)[0]
    return Generator().manual_seed(int(seed >> np.uint64(1)))


def steps_per_epoch(data: Data, config: RunConfig) -> int:
    """Return the number of batches in an epoch."""
    return max(1, len(data.train) // config.batch_size)
