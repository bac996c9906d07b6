"""Batches of a training epoch. Shapes: T time steps, B samples, V views, C x H x W."""

import logging
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Generator, Tensor

from tcl_lib.config import RunConfig
from tcl_lib.data.draws import Draws
from tcl_lib.data.parts import Data, Split
from tcl_lib.utils.devices import to_device

log = logging.getLogger(__name__)

# Streams of random numbers. numpy pads seeds with zeros: without a tag, the order of an epoch and the
# augmentation of its batch 0 would share one.
ORDER, AUGMENTATION = 1, 2
SHARE = 0.5  # of a GPU's free memory that the training samples may take up


def training_batches(
    data: Data,
    config: RunConfig,
    epoch: int,
    device: torch.device | str = "cpu",
    start: int = 0,
    part: tuple[int, int] = (0, 1),
    samples: Split | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Return the batches of an epoch: float [V*B, C, H, W] images or [T, V*B, C, H, W] frames; labels [B].

    A batch holds one view of all samples after another. The first batch is number `start`, counted from 0.
    `seed` and `epoch` determine the order of the samples; with the batch's number, they determine its
    augmentation. Samples that do not fill the last batch are left out, different ones in every epoch. A
    training part smaller than a batch is one batch.

    With `part=(i, n)`, the images are the i-th of n parts of the batch (from 0), and equal those of the whole
    batch; the labels are still those of the whole batch. `samples` is `data.train` where `placed` put it.
    """
    samples = samples or data.train
    order = torch.randperm(len(data.train), generator=_generator(config, ORDER, epoch))
    batches = order[: steps_per_epoch(data, config) * config.batch_size].split(config.batch_size)
    rows = [part_of(len(chosen), *part) for chosen in batches]
    places = order.to(samples.indices.device).split(config.batch_size)

    def stored(batch: int) -> Tensor | None:
        if batch < len(batches):
            return to_device(samples[places[batch][rows[batch]]], device)

    ahead = stored(start)  # on its way to the device one batch ahead
    for batch in range(start, len(batches)):
        here, ahead = ahead, stored(batch + 1)
        chosen = batches[batch]
        draws = Draws(_generator(config, AUGMENTATION, epoch, batch), len(chosen), rows[batch])
        yield data.views(here, config, draws), to_device(data.train.labels[chosen], device)


def part_of(size: int, part: int, parts: int) -> slice:
    """Return which of so many samples are in a part; the first parts hold one more where it is uneven."""
    each, more = divmod(size, parts)
    start = part * each + min(part, more)
    return slice(start, start + each + (part < more))


def placed(split: Split, device: torch.device, wanted: bool = True) -> Split:
    """Return a subset whose samples lie on an NVIDIA GPU, if that is wanted and they fit; else as it is.

    They fit if they are bytes and take up less than half of the free memory.
    """
    if not wanted or device.type != "cuda" or split.stored.dtype != torch.uint8:
        return split
    size, free = len(split) * split.stored[0].numel(), torch.cuda.mem_get_info(device)[0]
    fits = size < SHARE * free
    where = "are kept there" if fits else "stay in main memory"
    log.info("training samples: %.2f GB, %.2f GB of the GPU are free: they %s", size / 1e9, free / 1e9, where)
    if not fits:
        return split
    return replace(split, stored=split[:].to(device), indices=torch.arange(len(split), device=device))


def _generator(config: RunConfig, *numbers: int) -> Generator:
    """Return a generator seeded with the config's seed and these numbers."""
    seed = np.random.SeedSequence([config.seed, *numbers]).generate_state(1, np.uint64)[0]
    return Generator().manual_seed(int(seed >> np.uint64(1)))


def steps_per_epoch(data: Data, config: RunConfig) -> int:
    """Return the number of batches in an epoch."""
    return max(1, len(data.train) // config.batch_size)
