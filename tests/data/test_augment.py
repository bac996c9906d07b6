"""Augmentation against plain loops over samples."""

from time import perf_counter

import numpy as np
import pytest
import torch

from tcl_lib import RunConfig, build_network
from tcl_lib.data.augment import augment, crop_and_flip, erase_square
from tcl_lib.data.draws import Draws


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(batch=16, channels=3, height=12, width=10) -> torch.Tensor:
    shape = (batch, channels, height, width)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=seeded(9))


@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("padding", [(0, 0), (1, 1), (4, 3), (0, 9)])
def test_crop_and_flip_equals_a_loop_over_samples(padding, flip):
    batch = images()
    result = crop_and_flip(batch, padding, flip, Draws(seeded(), len(batch)))
    generator = seeded()
    high, wide = padding
    down = torch.randint(-high, high + 1, (16, 1), generator=generator).flatten().tolist()
    right = torch.randint(-wide, wide + 1, (16, 1), generator=generator).flatten().tolist()
    heads = (torch.rand(16, 1, generator=generator) < 0.5).flatten().tolist() if flip else [False] * 16
    for image, view, dy, dx, head in zip(batch.numpy(), result.numpy(), down, right, heads, strict=True):
        padded = np.pad(image, ((0, 0), (high, high), (wide, wide)), mode="reflect")
        expected = padded[:, high + dy : high + dy + 12, wide + dx : wide + dx + 10]
        assert (view == (expected[:, :, ::-1] if head else expected)).all()
    if flip:
        assert 0 < sum(heads) < 16


def test_crop_and_flip_shifts_evenly_over_its_range():
    # a column of row numbers: the first pixel tells the shift
    batch = torch.arange(20, dtype=torch.uint8).view(1, 1, 20, 1).expand(9000, 1, 20, 20)
    shifted = crop_and_flip(batch, (4, 4), False, Draws(seeded(), len(batch)))[:, 0, 10, 0].long() - 10
    counts = torch.bincount(shifted + 4, minlength=9)
    assert len(counts) == 9
    assert (counts - 1000).abs().max() < 150  # five standard deviations


@pytest.mark.parametrize("side", [1, 3, 4, 30])
def test_erase_square_equals_a_loop_over_samples(side):
    batch = images()
    result = erase_square(batch, side, Draws(seeded(), len(batch)))
    generator = seeded()
    tops, lefts = (torch.randint(0, n, (16, 1), generator=generator).flatten() for n in (12, 10))
    for image, view, centre_y, centre_x in zip(batch, result, tops.tolist(), lefts.tolist(), strict=True):
        expected = image.clone()
        top, left = centre_y - side // 2, centre_x - side // 2
        expected[:, max(top, 0) : top + side, max(left, 0) : left + side] = 128
        assert torch.equal(view, expected)


@pytest.mark.parametrize("options", [{}, {"cutout": 3}, {"autoaugment": True}])
@pytest.mark.parametrize("channels", [1, 3])
def test_augment_follows_the_seed_and_leaves_its_input(channels, options):
    batch = images(channels=channels, height=16, width=16)
    before, settings = batch.clone(), {"flip": True, "cutout": 0, "autoaugment": False} | options
    torch.manual_seed(1)
    one = augment(batch, Draws(seeded(), len(batch)), **settings)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(augment(batch, Draws(seeded(), len(batch)), **settings), one)
    assert not torch.equal(augment(batch, Draws(seeded(1), len(batch)), **settings), one)
    assert torch.equal(batch, before)
    assert one.dtype == torch.uint8
    assert one.shape == batch.shape
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)  # torch's global generator is left where it was


def test_augment_draws_for_every_sample():
    batch = images(batch=1, height=32, width=32).expand(64, -1, -1, -1)
    for options in ({}, {"cutout": 8}, {"autoaugment": True}):
        settings = {"flip": False, "cutout": 0, "autoaugment": False} | options
        views = augment(batch, Draws(seeded(), len(batch)), **settings)
        assert len(views.flatten(1).unique(dim=0)) > 30


def test_augment_shifts_by_an_eighth_of_the_side():
    ramp = torch.arange(32, dtype=torch.uint8).view(1, 1, 1, 32).expand(500, 1, 32, 32)
    views = augment(ramp, Draws(seeded(), len(ramp)), flip=False, cutout=0, autoaugment=False)
    assert sorted((views[:, 0, 0, 16].long() - 16).unique().tolist()) == list(range(-4, 5))


@pytest.mark.parametrize("shape", [(1, 1), (4, 100), (100, 4), (7, 17)])
def test_augment_takes_any_shape(shape):
    batch = images(height=shape[0], width=shape[1])
    views = augment(batch, Draws(seeded(), len(batch)), flip=True, cutout=0, autoaugment=False)
    assert views.shape == batch.shape


@pytest.mark.parametrize("autoaugment", [False, True])
def test_augment_of_a_part_equals_the_part_of_the_whole(autoaugment):
    """Two views of a batch, whole and in three parts of uneven size, as three processes hold it."""
    batch = images(height=32, width=32)
    settings = {"flip": True, "cutout": 8, "autoaugment": autoaugment}
    whole = Draws(seeded(), 16)
    expected = [augment(batch, whole, **settings) for _ in range(2)]
    for rows in (slice(0, 6), slice(6, 11), slice(11, 16)):
        part = Draws(seeded(), 16, rows)
        for view in expected:
            assert torch.equal(augment(batch[rows], part, **settings), view[rows])


@pytest.mark.soak
def test_augment_takes_little_of_a_step():
    """Augmented views of 128 images of 32x32 against a step of the smallest network, one at a time."""
    stored = torch.randint(0, 256, (128, 3, 32, 32), dtype=torch.uint8)
    generator = torch.Generator().manual_seed(0)
    network = build_network(RunConfig(loss="ce"), (3, 32, 32), 10)
    network.to(memory_format=torch.channels_last)
    feeding, learning = [], []
    for _ in range(3):
        started = perf_counter()
        images = augment(stored, Draws(generator, 128), flip=True, cutout=8, autoaugment=False).float()
        feeding.append(perf_counter() - started)
        started = perf_counter()
        network(images).logits.sum().backward()
        learning.append(perf_counter() - started)
    assert min(feeding) < 0.05 * min(learning)
