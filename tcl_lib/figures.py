"""Figures from tables and arrays. Imports no torch.

Every function gives a Figure that pyplot no longer holds: the last line of a notebook cell shows it once.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

STYLE = {"font.size": 9, "axes.titlesize": 9, "savefig.dpi": 200, "figure.dpi": 100}
PALETTE = "colorblind"
# One colour a loss, whichever of them a figure shows.
COLOURS = dict(zip(("ce", "per_step_ce", "tcl", "stcl"), sns.color_palette(PALETTE), strict=False))


def _axes(columns: int, width: float, height: float) -> tuple[Figure, np.ndarray]:
    """A row of axes, in inches."""
    with sns.axes_style("whitegrid"), plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, columns, figsize=(width, height), layout="constrained", squeeze=False)
    plt.close(figure)
    return figure, axes[0]


def views(rows: np.ndarray, names: list[str]) -> Figure:
    """Images as stored and as augmented: uint8 [R, N, C, H, W], a name for each of the R rows."""
    count = rows.shape[1]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(rows), count, figsize=(0.8 * count, 0.85 * len(rows)), layout="constrained", squeeze=False
        )
    plt.close(figure)
    for row, name, line in zip(rows, names, axes, strict=True):
        for image, ax in zip(row, line, strict=True):
            colour = image.shape[0] == 3
            ax.imshow(image.transpose(1, 2, 0) if colour else image[0], cmap="gray", vmin=0, vmax=255)
            ax.set(xticks=[], yticks=[])
        line[0].set_ylabel(name)
    return figure


def learning_curves(metrics: pd.DataFrame) -> Figure:
    """Losses, accuracies and firing rates over the epochs, from a run's `metrics`."""
    figure, (losses, accuracy, rates) = _axes(3, width=10, height=2.8)
    epochs = metrics["epoch"]
    for name in ("loss", "cross_entropy", "contrastive", "validation_cross_entropy"):
        if name in metrics and not (name == "cross_entropy" and "contrastive" not in metrics):
            losses.plot(epochs, metrics[name], label=name.replace("_", " "))
    losses.set(xlabel="epoch", ylabel="loss (nats)", ylim=(0, None))
    for name, label in (
        ("train_accuracy", "training, augmented"),
        ("validation_accuracy", "validation, all steps"),
        ("validation_accuracy_t1", "validation, first step"),
    ):
        accuracy.plot(epochs, metrics[name], label=label)
    accuracy.set(xlabel="epoch", ylabel="accuracy (%)", ylim=(None, 101))
    layers = [name for name in metrics if name.startswith("firing_rate_")]
    for name, colour in zip(layers, sns.color_palette("viridis", len(layers)), strict=True):
        rates.plot(epochs, metrics[name], color=colour, label=f"layer {name.rpartition('_')[2]}")
    rates.set(xlabel="epoch", ylabel="firing rate (spikes a step)", ylim=(0, None))
    for ax in (losses, accuracy, rates):
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.legend(fontsize=7, ncols=1 + (len(ax.lines) > 6))
    return figure


def accuracy_by_step(table: pd.DataFrame) -> Figure:
    """Test accuracy when inference stops after t steps, and of step t alone.

    Takes a run's `accuracy_by_step`, or several of them one below the other with a column `loss`.
    """
    figure, axes = _axes(2, width=7.2, height=2.8)
    groups = table.groupby("loss", sort=False) if "loss" in table else [(None, table)]
    for column, ax in zip(("cumulative", "instantaneous"), axes, strict=True):
        for loss, rows in groups:
            ax.plot(rows["time_step"], rows[column], "o-", color=COLOURS.get(loss), label=loss)
        ax.set(xlabel="time steps t" if column == "cumulative" else "time step t")
        ax.xaxis.get_major_locator().set_params(integer=True)
    axes[0].set(ylabel="test accuracy (%)", title="mean logits of the first t steps")
    axes[1].set(title="logits of step t alone", ylim=None)
    low = min(ax.get_ylim()[0] for ax in axes)
    high = max(ax.get_ylim()[1] for ax in axes)
    for ax in axes:
        ax.set_ylim(low, high)
    if "loss" in table:
        axes[0].legend(title="loss")
    return figure
