"""Figures from tables and arrays. Imports no torch.

Every function gives a Figure that pyplot no longer holds: the last line of a notebook cell shows it once.
"""

from collections.abc import Callable
from functools import wraps

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

STYLE = sns.axes_style("whitegrid") | {
    "axes.prop_cycle": plt.cycler(color=sns.color_palette("colorblind")),
    "axes.titlesize": 10,
    "figure.constrained_layout.use": True,
    "figure.dpi": 100,
    "font.size": 9,
    "legend.fontsize": 8,
    "savefig.dpi": 200,
}
# One colour a loss, whichever of them a figure shows.
COLOURS = dict(zip(("ce", "per_step_ce", "tcl", "stcl"), sns.color_palette("colorblind"), strict=False))


def _figure(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw in the project's style, and take the figure out of pyplot's hands."""

    @wraps(draw)
    def styled(*arguments, **options) -> Figure:
        with plt.rc_context(STYLE):
            figure = draw(*arguments, **options)
        plt.close(figure)
        return figure

    return styled


@_figure
def views(rows: np.ndarray, names: list[str], data: str, side: int = 64) -> Figure:
    """Samples as stored and as augmented: uint8 [R, N, C, H, W] with C of 1 or 3, R names, and what they are.

    A picture is drawn about `side` pixels large, every pixel of it as a square of whole pixels (or every n-th
    of a larger one): sharp, and small as a PNG.
    """
    channels, largest = rows.shape[2], max(rows.shape[3:])
    scale, step = max(1, round(side / largest)), max(1, round(largest / side))
    gap, left, top, dpi = 4, 60, 22, STYLE["figure.dpi"]
    tiles = rows[..., ::step, ::step].repeat(scale, 3).repeat(scale, 4)
    tiles = np.pad(tiles, [(0, 0)] * 3 + [(gap, 0)] * 2, constant_values=225)  # [R, N, C, H', W']
    mosaic = tiles.transpose(0, 3, 1, 4, 2).reshape(len(rows) * tiles.shape[3], -1, channels)
    high, wide = mosaic.shape[:2]
    figure = plt.figure(figsize=((left + wide) / dpi, (top + high) / dpi), layout="none")
    axes = figure.add_axes((left / (left + wide), 0, wide / (left + wide), high / (top + high)))
    axes.set_title(data, loc="left")
    axes.imshow(mosaic.repeat(4 - channels if channels == 1 else 1, 2), interpolation="nearest")
    axes.set(xticks=[], yticks=(np.arange(len(rows)) + 0.5) * high / len(rows), yticklabels=names)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.grid(False)
    return figure


@_figure
def learning_curves(metrics: pd.DataFrame) -> Figure:
    """Losses, accuracies and firing rates over the epochs, from a run's `metrics`."""
    figure, (losses, accuracy, rates) = plt.subplots(1, 3, figsize=(10, 3))
    dot = "o" if len(metrics) == 1 else None  # a line through one epoch would not be seen
    terms = ["loss", "cross_entropy", "contrastive"] if "contrastive" in metrics else ["cross_entropy"]
    for name in [*terms, "validation_cross_entropy"]:
        losses.plot(metrics["epoch"], metrics[name], marker=dot, label=name.replace("_", " "))
    losses.set(title="loss", ylabel="nats", ylim=(0, None))
    for name, label in (
        ("train_accuracy", "training, augmented"),
        ("validation_accuracy", "validation, all steps"),
        ("validation_accuracy_t1", "validation, first step"),
    ):
        accuracy.plot(metrics["epoch"], metrics[name], marker=dot, label=label)
    accuracy.set(title="accuracy", ylabel="%")
    layers = [name for name in metrics if name.startswith("firing_rate_")]
    for name, colour in zip(layers, sns.color_palette("viridis", len(layers)), strict=True):
        label = f"layer {name.split('_')[-1]}"
        rates.plot(metrics["epoch"], metrics[name], marker=dot, color=colour, label=label)
    rates.set(title="firing rate", ylabel="spikes a neuron and step", ylim=(0, None))
    figure.suptitle(", ".join(metrics["data"].unique()))
    for axes in (losses, accuracy, rates):
        axes.set_xlabel("epoch")
        _whole_numbers(axes)
        axes.legend(ncols=1 + (len(axes.lines) > 6), fontsize=6 if len(axes.lines) > 6 else 8)
    return figure


@_figure
def accuracy_by_step(table: pd.DataFrame, events: bool = False) -> Figure:
    """Test accuracy when inference stops after t steps, with its 95 % interval, and of step t alone.

    Takes a run's `accuracy_by_step`, or those of one run a loss, below each other, with a column `loss`; for
    `events`, the first t steps are the first t frames of a recording.
    """
    figure, (stopped, alone) = plt.subplots(1, 2, figsize=(7.2, 3), sharey=True)
    runs = table.groupby("loss", sort=False) if "loss" in table else [(None, table)]
    for loss, rows in runs:
        for axes, column in ((stopped, "cumulative"), (alone, "instantaneous")):
            axes.plot(rows["time_step"], rows[column], "o-", color=COLOURS.get(loss), label=loss)
        stopped.fill_between(
            rows["time_step"],
            rows["low"],
            rows["high"],
            color=stopped.lines[-1].get_color(),
            alpha=0.15,
            lw=0,
        )
    stopped.set(
        title="mean logits of the first t steps",
        xlabel="time steps t, the first t frames" if events else "time steps t",
        ylabel="test accuracy (%)",
    )
    figure.suptitle(", ".join(table["data"].unique()))
    alone.set(title="logits of step t alone", xlabel="time step t")
    for axes in (stopped, alone):
        _whole_numbers(axes)
    if "loss" in table:
        stopped.legend()
    return figure


def _whole_numbers(axes: Axes) -> None:
    axes.xaxis.get_major_locator().set_params(integer=True)
