"""Augmentation of event frames, with independent draws for every sample, the same for all of its frames.

Shapes: B samples, T time steps, H x W pixels. All draws come from a CPU generator, so that a seed
gives the same views on every device.
"""

import math

import torch
from torch import Tensor

from tcl_lib.data.draws import Draws
from tcl_lib.utils.devices import to_device

# TET's limit, for frames of 48 pixels; smaller frames move less.
ROLL, ROLL_SIDE = 5, 48
ANGLE = 30.0  # degrees, from NDA's code, for rotation and shear
HOLE = 6  # from NDA's cutout: a square of up to a sixth of the frame's side, 8 of 48 pixels


def augment_frames(frames: Tensor, draws: Draws, *, flip: bool, kind: str) -> Tensor:
    """Return one augmented view of every sample: float [B, T, 2, H, W] -> float [B, T, 2, H, W].

    Args:
        flip: mirror half of the samples.
        kind: "roll" shifts each circularly by up to 5 pixels (or 5/48 of a smaller frame's side) in x and y
            (TET, Deng et al. 2022); "nda" applies one of four operations to each: roll, rotate by up to 30
            degrees, shear in x by up to 30 degrees, or cut out a square (Li et al. 2022, arXiv 2203.06145).
    """
    batch, steps, _, height, width = frames.shape
    # Source row and column of every pixel of the view, [B, H, W] each, and whether it is visible
    rows, columns = torch.arange(height)[:, None], torch.arange(width)[None, :]
    rolled = torch.ones(batch, 1, 1, dtype=torch.bool)
    seen = torch.ones(batch, height, width, dtype=torch.bool)
    if kind == "nda":
        chosen = draws.integers(0, 4, 1, 1)
        rolled, rotated, sheared, cut = (chosen == index for index in range(4))
        rows, columns = _turned(height, width, rotated, sheared, draws)
        seen = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        side = draws.integers(1, max(1, min(height, width) // HOLE) + 1, 1)
        seen &= ~(draws.squares(height, width, side) & cut)
    rows = (rows + _shifts(height, draws) * rolled) % height
    columns = (columns + _shifts(width, draws) * rolled) % width
    if flip:
        heads = draws.uniform(1, 1) < 0.5
        columns = torch.where(heads, width - 1 - columns, columns)

    source = to_device((rows * width + columns).flatten(1), frames.device)[:, None]  # [B, 1, H*W]
    view = frames.flatten(1, 2).flatten(2)  # [B, T*2, H*W]
    view = (
        view.gather(2, source.expand(-1, 2 * steps, -1)) * to_device(seen.flatten(1), frames.device)[:, None]
    )
    return view.view(frames.shape)


def _turned(height: int, width: int, rotated: Tensor, sheared: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """Return the source row and column of every pixel, possibly outside: int64 [B, H, W] each."""
    angle = random_angles(draws)[:, None, None]
    turn, slant = angle * rotated, torch.tan(angle) * sheared
    y = (torch.arange(height) - (height - 1) / 2)[:, None]
    x = (torch.arange(width) - (width - 1) / 2)[None, :]
    rows = turn.cos() * y - turn.sin() * x + (height - 1) / 2
    columns = turn.sin() * y + turn.cos() * x + slant * y + (width - 1) / 2
    return rows.round().long(), columns.round().long()


def random_angles(draws: Draws) -> Tensor:
    """Return angles of up to 30 degrees either way, in radians: float [B]."""
    return (2 * draws.uniform() - 1) * math.radians(ANGLE)


def _shifts(size: int, draws: Draws) -> Tensor:
    limit = min(ROLL, round(size * ROLL / ROLL_SIDE))
    return draws.integers(-limit, limit + 1, 1, 1)
