"""Figures show what the tables hold, and can be drawn."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from tcl_lib import figures

METRICS = pd.DataFrame(
    {
        "data": "dvs_cifar10 (tet split)",
        "epoch": [1, 2, 3],
        "loss": [3.0, 2.0, 1.5],
        "cross_entropy": [1.0, 0.5, 0.25],
        "contrastive": [2.0, 1.5, 1.25],
        "train_accuracy": [50.0, 70.0, 80.0],
        "validation_cross_entropy": [1.1, 0.6, 0.5],
        "validation_accuracy": [55.0, 65.0, 75.0],
        "validation_accuracy_t1": [50.0, 60.0, 70.0],
        "firing_rate_1": [0.2, 0.21, 0.22],
        "firing_rate_2": [0.1, 0.11, 0.12],
    }
)
STEPS = pd.DataFrame(
    {
        "data": "moving_digits (simulated)",
        "time_step": [1, 2, 3],
        "cumulative": [60.0, 66.0, 68.0],
        "low": [55.0, 61.0, 63.0],
        "high": [65.0, 71.0, 73.0],
        "instantaneous": [60.0, 64.0, 61.0],
    }
)


def drawn(figure) -> bytes:
    assert not plt.get_fignums()  # else a notebook would show it twice
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


def lines(axes) -> dict[str, list]:
    return {line.get_label(): line.get_ydata().tolist() for line in axes.lines}


def test_learning_curves():
    figure = figures.learning_curves(METRICS)
    losses, accuracy, rates = (lines(axes) for axes in figure.axes)
    assert losses["contrastive"] == [2.0, 1.5, 1.25]
    assert losses["validation cross entropy"] == [1.1, 0.6, 0.5]
    assert accuracy["validation, first step"] == [50.0, 60.0, 70.0]
    assert figure.get_suptitle() == "dvs_cifar10 (tet split)"
    assert rates == {"layer 1": [0.2, 0.21, 0.22], "layer 2": [0.1, 0.11, 0.12]}
    assert all(axes.get_xlabel() and axes.get_ylabel() for axes in figure.axes)
    assert drawn(figure)


def test_a_single_epoch_is_seen():
    figure = figures.learning_curves(METRICS[:1])
    assert all(line.get_marker() == "o" for axes in figure.axes for line in axes.lines)


def test_without_contrast_the_loss_is_the_cross_entropy():
    losses = lines(figures.learning_curves(METRICS.drop(columns="contrastive")).axes[0])
    assert list(losses) == ["cross entropy", "validation cross entropy"]


def test_accuracy_by_step_of_one_run():
    stopped, alone = figures.accuracy_by_step(STEPS).axes
    assert stopped.lines[0].get_ydata().tolist() == [60.0, 66.0, 68.0]
    assert alone.lines[0].get_ydata().tolist() == [60.0, 64.0, 61.0]
    assert stopped.lines[0].get_xdata().tolist() == [1, 2, 3]
    (band,) = stopped.collections
    corners = set(map(tuple, band.get_paths()[0].vertices.tolist()))
    assert {(1, 55.0), (1, 65.0), (3, 63.0), (3, 73.0)} <= corners


def test_a_simulation_is_called_one_and_steps_of_events_are_frames():
    figure = figures.accuracy_by_step(STEPS, events=True)
    assert figure.get_suptitle() == "moving_digits (simulated)"
    assert "the first t frames" in figure.axes[0].get_xlabel()
    assert "frames" not in figures.accuracy_by_step(STEPS).axes[0].get_xlabel()


def test_accuracy_by_step_of_several_losses():
    other = STEPS.assign(loss="ce", cumulative=[59.0, 65.0, 67.0])
    table = pd.concat([STEPS.assign(loss="stcl"), other])
    figure = figures.accuracy_by_step(table)
    stopped = figure.axes[0]
    assert lines(stopped) == {"stcl": [60.0, 66.0, 68.0], "ce": [59.0, 65.0, 67.0]}
    assert stopped.get_legend() is not None
    # a loss keeps its colour whatever stands beside it
    alone = figures.accuracy_by_step(table[table["loss"] == "ce"]).axes[0]
    assert to_rgb(alone.lines[0].get_color()) == to_rgb(stopped.lines[1].get_color())
    assert drawn(figure)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (3, 200, 150)])
def test_views_shows_every_pixel_as_it_is(shape):
    random = np.random.default_rng(0)
    rows = random.integers(0, 256, (3, 4, *shape), dtype=np.uint8)
    figure = figures.views(rows, ["stored", "view 1", "view 2"], "moving_digits (simulated)")
    assert figure.axes[0].get_title("left") == "moving_digits (simulated)"
    shown = figure.axes[0].images[0].get_array()
    assert shown.shape[2] == 3
    scale, step = max(1, round(64 / max(shape))), max(1, round(max(shape) / 64))
    height, width = (-(-side // step) * scale for side in shape[1:])
    second = shown[height + 8 : 2 * height + 8, 4 : width + 4][::scale, ::scale]
    assert (second == rows[1, 0][:, ::step, ::step].transpose(1, 2, 0)).all()
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["stored", "view 1", "view 2"]
    assert len(drawn(figure)) < 200_000
