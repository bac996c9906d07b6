"""A layer of neurons as a picture: a tile a channel. Shapes: C channels, H x W neurons."""

import matplotlib.pyplot as plt
import numpy as np

SILENT, FIRES, GAP = (238, 238, 238), (20, 20, 20), (190, 208, 230)


def spike_colours(spikes: np.ndarray) -> np.ndarray:
    """Return a layer's spikes, [C, H, W] or [C], as a `mosaic` of colours: uint8 [rows, columns, 3]."""
    tiles = mosaic(spikes)
    return np.array([SILENT, FIRES, GAP], np.uint8)[np.where(np.isnan(tiles), 2, tiles > 0).astype(int)]


def potential_colours(potentials: np.ndarray, threshold: float) -> np.ndarray:
    """Return potentials as a `mosaic` of colours: red above the threshold, blue below, uint8.

    The colours reach three thresholds from the threshold.
    """
    tiles = mosaic(potentials)
    colours = plt.get_cmap("RdBu_r")(0.5 + (tiles / threshold - 1) / 6, bytes=True)[..., :3]
    colours[np.isnan(tiles)] = 255
    return colours


def mosaic(layer: np.ndarray) -> np.ndarray:
    """Return the values of a layer as one picture, nearly a square, with NaN where there is no neuron.

    [C, H, W] gives a tile a channel with a gap of one pixel between them, row by row; [C] gives a pixel a
    neuron without gaps.
    """
    gap = layer.ndim == 3
    tiles = layer if gap else layer[:, None, None]
    count, height, width = tiles.shape
    columns = max(1, round(np.sqrt(count * height / width)))
    rows = -(-count // columns)
    grid = np.full((rows * columns, height + gap, width + gap), np.nan, np.float32)
    grid[:count, :height, :width] = tiles
    whole = grid.reshape(rows, columns, height + gap, width + gap).swapaxes(1, 2)
    whole = whole.reshape(rows * (height + gap), columns * (width + gap))
    return whole[: len(whole) - gap, : whole.shape[1] - gap]
