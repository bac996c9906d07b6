"""Augmentation of event frames, against plain loops."""

import math

import numpy as np
import pytest
import torch
from torch import Generator

from tcl_lib.data.draws import Draws
from tcl_lib.data.events import augment
from tcl_lib.data.events.augment import ROLL, augment_frames


def frames(batch: int = 40, steps: int = 3, height: int = 48, width: int = 48) -> torch.Tensor:
    return torch.randint(1, 1000, (batch, steps, 2, height, width)).float()


def views(x: torch.Tensor, seed: int = 0, **options) -> torch.Tensor:
    options = {"flip": False, "kind": "roll"} | options
    return augment_frames(x, Draws(Generator().manual_seed(seed), len(x)), **options)


def shift_of(view: torch.Tensor, sample: torch.Tensor, limit: int) -> tuple[int, int] | None:
    for rows, columns in np.ndindex(2 * limit + 1, 2 * limit + 1):
        shift = (rows - limit, columns - limit)
        if torch.equal(view, sample.roll(shift, (-2, -1))):
            return shift
    return None


def test_augment_frames_rolls_as_torch_by_up_to_5_pixels():
    x = frames()
    shifts = [shift_of(view, sample, ROLL) for view, sample in zip(views(x), x, strict=True)]
    assert None not in shifts  # the same shift in all frames and both polarities
    assert len(set(shifts)) > 25
    assert max(max(map(abs, shift)) for shift in shifts) == 5


@pytest.mark.parametrize(("side", "limit"), [(12, 1), (34, 4), (48, 5), (128, 5)])
def test_augment_frames_moves_smaller_frames_less(side, limit):
    x = frames(30, 1, side, side)
    shifts = [shift_of(view, sample, limit) for view, sample in zip(views(x), x, strict=True)]
    assert max(max(map(abs, shift)) for shift in shifts) == limit


def test_augment_frames_mirrors_half_of_the_samples():
    x = frames(200, 1, 8, 6)
    mirrored = [
        shift_of(view, sample, 1) is None and shift_of(view, sample.flip(-1), 1) is not None
        for view, sample in zip(views(x, flip=True), x, strict=True)
    ]
    assert 70 < sum(mirrored) < 130


def affine(sample: torch.Tensor, rows_of, columns_of) -> torch.Tensor:
    """Every pixel from where two functions of its place relative to the middle say, 0 from outside."""
    height, width = sample.shape[-2:]
    middle = (height - 1) / 2, (width - 1) / 2
    view = torch.zeros_like(sample)
    for row, column in np.ndindex(height, width):
        y, x = row - middle[0], column - middle[1]
        source = round(rows_of(y, x) + middle[0]), round(columns_of(y, x) + middle[1])
        if 0 <= source[0] < height and 0 <= source[1] < width:
            view[..., row, column] = sample[..., source[0], source[1]]
    return view


@pytest.mark.parametrize("degrees", [-29, -11, 7, 29])
def test_augment_frames_with_nda_does_one_of_four_things(monkeypatch, degrees):
    angle = math.radians(degrees)
    monkeypatch.setattr(augment, "random_angles", lambda draws: torch.full((draws.batch,), angle))
    x = frames(40, 2, 15, 13)
    kinds = []
    for view, sample in zip(views(x, kind="nda"), x, strict=True):
        sheared = affine(sample, lambda y, x: y, lambda y, x: math.tan(angle) * y + x)
        turned = affine(
            sample,
            lambda y, x: math.cos(angle) * y - math.sin(angle) * x,
            lambda y, x: math.sin(angle) * y + math.cos(angle) * x,
        )
        possible = {
            "roll": shift_of(view, sample, 2) is not None,
            "rotate": torch.equal(view, turned),
            "shear": torch.equal(view, sheared),
            "cutout": bool(((view == sample) | (view == 0)).all()),
        }
        assert any(possible.values())
        kinds += [kind for kind, fits in possible.items() if fits]
    assert set(kinds) == {"roll", "rotate", "shear", "cutout"}


@pytest.mark.parametrize("kind", ["roll", "nda"])
def test_augment_frames_of_a_part_equals_the_part_of_the_whole(kind):
    x = frames(16)
    expected = views(x, flip=True, kind=kind)
    for rows in (slice(0, 9), slice(9, 16)):
        part = Draws(Generator().manual_seed(0), 16, rows)
        assert torch.equal(augment_frames(x[rows], part, flip=True, kind=kind), expected[rows])


def test_random_angles_are_up_to_30_degrees_either_way():
    angles = augment.random_angles(Draws(Generator().manual_seed(0), 2000))
    assert angles.min().item() == pytest.approx(math.radians(-30), abs=0.01)
    assert angles.max().item() == pytest.approx(math.radians(30), abs=0.01)
    assert angles.mean().abs() < 0.03


def test_augment_frames_cuts_out_a_square_of_up_to_a_sixth_of_the_side():
    x = frames(300)
    view = views(x, kind="nda")
    sides = []
    for one, sample in zip(view, x, strict=True):
        gone = one == 0
        if not ((one == sample) | gone).all() or not gone.any():
            continue
        assert (gone == gone[:1, :1]).all()  # the same in all frames and both polarities
        rows, columns = gone[0, 0].any(1).sum(), gone[0, 0].any(0).sum()
        assert gone[0, 0].sum() == rows * columns
        sides.append(max(int(rows), int(columns)))
    assert len(sides) > 40
    assert max(sides) == 8


def test_augment_frames_draws_the_kinds_alike_often_from_the_generator_alone():
    x = frames(400, 1)
    one = views(x, 3, kind="nda", flip=True)
    torch.manual_seed(99)
    assert torch.equal(one, views(x, 3, kind="nda", flip=True))
    assert not torch.equal(one, views(x, 4, kind="nda", flip=True))
    kept = (one > 0).flatten(1).all(1).float().mean()
    assert 0.2 < kept < 0.35  # only a roll loses nothing, and a turn by next to nothing


def test_augment_frames_leaves_its_input_as_it_is():
    x = frames(8)
    before = x.clone()
    views(x, kind="nda", flip=True)
    assert torch.equal(x, before)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 1, 7), (2, 1, 5, 3)])
@pytest.mark.parametrize("kind", ["roll", "nda"])
def test_augment_frames_takes_any_shape(shape, kind):
    batch, steps, height, width = shape
    x = frames(batch, steps, height, width)
    assert views(x, kind=kind, flip=True).shape == x.shape
