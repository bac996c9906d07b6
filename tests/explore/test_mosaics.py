"""Layers of neurons as pictures."""

import numpy as np
import pytest

from tcl_lib.explore.mosaics import FIRES, GAP, SILENT, mosaic, potential_colours, spike_colours


@pytest.mark.parametrize("shape", [(64, 8, 8), (5, 2, 3), (1, 4, 4), (7, 1, 1)])
def test_mosaic_has_a_tile_a_channel(shape):
    layer = np.random.default_rng(0).random(shape).astype(np.float32)
    whole = mosaic(layer)
    count, height, width = shape
    columns = (whole.shape[1] + 1) // (width + 1)
    for channel in range(count):
        row, column = divmod(channel, columns)
        y, x = row * (height + 1), column * (width + 1)
        assert np.array_equal(whole[y : y + height, x : x + width], layer[channel])
    assert np.isnan(whole).sum() == whole.size - layer.size
    assert 0.4 < whole.shape[0] / whole.shape[1] < 2.5


def test_mosaic_of_a_layer_without_places_has_no_gaps():
    layer = np.arange(256.0)
    assert np.array_equal(mosaic(layer), layer.reshape(16, 16))


def test_colours_tell_spikes_and_the_side_of_the_threshold():
    spikes = np.array([[[1.0]], [[0.0]], [[0.0]]])
    colours = spike_colours(spikes).reshape(-1, 3).tolist()
    assert [colours.count(list(one)) for one in (FIRES, SILENT)] == [1, 2]
    assert list(GAP) in colours
    red, blue = potential_colours(np.array([1.5, 0.5]), threshold=1.0).reshape(-1, 3).astype(int)
    assert red[0] > red[2]
    assert blue[0] < blue[2]
