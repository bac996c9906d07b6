"""Batches of a training epoch. Shapes: T time steps, B samples, V views, C x H x W."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Generator, Tensor

from tcl_lib.config import RunConfig
from tcl_lib.data.draws import Draws
from tcl_lib.data.parts import Data

# Streams of random numbers. numpy pads seeds with zeros: without a tag, the order of an epoch and the
# augmentation of its batch 0 would share one.
ORDER, AUGMENTATION = 1, 2


def training_batches(
    data: Data,
    config: RunConfig,
    epoch: int,
    device: torch.device | str = "cpu",
    start: int = 0,
    part: tuple[int, int] = (0, 1),
) -> Iterator[tuple[Tensor, Tensor]]:
    """Return the batches of an epoch: float [V*B, C, H, W] images or [T, V*B, C, H, W] frames; labels [B].

    A batch holds one view of all samples after another. The first batch is number `start`, counted from 0.
    `seed` and `epoch` determine the order of the samples; with the batch's number, they determine its
    augmentation. Samples that do not fill the last batch are left out, different ones in every epoch. A
    training part smaller than a batch is one batch.

    With `part=(i, n)`, the images are the i-th of n parts of the batch (from 0), and equal those of the whole
    batch; the labels are still those of the whole batch.
    """
    order = torch.randperm(len(data.train), generator=_generator(config, ORDER, epoch))
    for batch in range(start, steps_per_epoch(data, config)):
        generator = _generator(config, AUGMENTATION, epoch, batch)
        chosen = order[batch * config.batch_size : (batch + 1) * config.batch_size]
        rows = part_of(len(chosen), *part)
        stored = data.train[chosen[rows]].to(device)
        images = data.views(stored, config, Draws(generator, len(chosen), rows))
        yield images, data.train.labels[chosen].to(device)


def part_of(size: int, part: int, parts: int) -> slice:
    """Return which of so many samples are in a part; the first parts hold one more where it is uneven."""
    each, more = divmod(size, parts)
    start = part * each + min(part, more)
    return slice(start, start + each + (part < more))


def _generator(config: RunConfig, *numbers: int) -> Generator:
    """Return a generator seeded with the config's seed and these numbers."""
    seed = np.random.SeedSequence([config.seed, *numbers]).generate_state(1, np.uint64)[0]
    return Generator().manual_seed(int(seed >> np.uint64(1)))


def steps_per_epoch(data: Data, config: RunConfig) -> int:
    """Return the number of batches in an epoch."""
    return max(1, len(data.train) // config.batch_size)
