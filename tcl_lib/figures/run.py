"""Figures of single runs: their data, learning curves and firing rates."""

from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from tcl_lib.figures.drawing import drawing, reads, set_caption, styled
from tcl_lib.figures.hover import name_means
from tcl_lib.figures.results import averaged
from tcl_lib.figures.style import (
    STYLE,
    Page,
    PrintedFigure,
    label,
    label_outer,
    legend,
    over_seeds,
    time_ticks,
    variants,
    whole_numbers,
)
from tcl_lib.runs.names import data_title

CURVES = {
    "train_accuracy": "training accuracy",
    "validation_accuracy": "validation accuracy",
    "validation_accuracy_t1": "validation accuracy, $t = 1$",
}


def views(rows: np.ndarray, names: list[str], data: str, side: int = 64) -> PrintedFigure:
    """Return a figure of samples as stored and as augmented.

    Args:
        rows: uint8 [R, N, C, H, W], R rows of N pictures; C is 1 or 3.
        names: the R names of the rows.
        data: the label of the data.
        side: size of a picture in the figure, in pixels. A small picture is magnified by a whole number; of a
            large one every n-th pixel is shown. Both are sharp and make small PNG files.
    """
    return styled(_views, Page(), rows, names, data, side)


def _views(page: Page, rows: np.ndarray, names: list[str], data: str, side: int) -> PrintedFigure:
    channels, largest = rows.shape[2], max(rows.shape[3:])
    scale, step = max(1, round(side / largest)), max(1, round(largest / side))
    gap, left, dpi = 4, 60, STYLE["figure.dpi"]
    tiles = rows[..., ::step, ::step].repeat(scale, 3).repeat(scale, 4)
    tiles = np.pad(tiles, [(0, 0)] * 3 + [(gap, 0)] * 2, constant_values=225)  # [R, N, C, H', W']
    mosaic = tiles.transpose(0, 3, 1, 4, 2).reshape(len(rows) * tiles.shape[3], -1, channels)
    high, wide = mosaic.shape[:2]
    size = (left + wide) / dpi, high / dpi
    figure = plt.figure(figsize=size, layout="none", FigureClass=PrintedFigure)
    axes = figure.add_axes((left / (left + wide), 0, wide / (left + wide), 1))
    rgb = mosaic.repeat(3, axis=2) if channels == 1 else mosaic
    axes.imshow(rgb, interpolation="nearest")
    axes.set(xticks=[], yticks=(np.arange(len(rows)) + 0.5) * high / len(rows), yticklabels=names)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.grid(False)
    figure.caption = f"Samples of {data_title(data)}. Rows: {', '.join(names)}."
    return figure


@drawing(reads("metrics"), "the course of training")
def learning_curves(page: Page, metrics: pd.DataFrame) -> PrintedFigure:
    """Return a figure of losses, accuracies and firing rates over the epochs, a row for each variant."""
    found = variants(metrics)
    figure, axes = page.panels(3 * len(found), height=42, columns=3)
    columns = list(metrics)
    terms = columns[columns.index("loss") + 1 : columns.index("train_accuracy")]
    terms = [*(["loss"] if len(terms) > 1 else []), *terms, "validation_cross_entropy"]
    layers = [name for name in metrics if name.startswith("firing_rate_")]
    colours = dict(zip([*terms, *CURVES], cycle(sns.color_palette("colorblind")), strict=False))
    colours |= dict(zip(layers, sns.color_palette("viridis", len(layers)), strict=True))
    dot = "o" if metrics["epoch"].nunique() == 1 else None  # a line through one epoch is not visible
    for row, (variant, rows, _) in enumerate(found):
        losses, accuracy, rates = axes[3 * row : 3 * row + 3]
        for axis, names in ((losses, terms), (accuracy, CURVES), (rates, layers)):
            for name in rows[list(names)].dropna(axis=1, how="all"):  # not every loss has every term
                points = over_seeds(rows, "epoch", name).mean
                words = CURVES.get(name, name.replace("firing_rate", "layer").replace("_", " "))
                axis.plot(points.index, points, marker=dot, color=colours[name], label=words)
                name_means(axis, rows, "epoch", points, words.replace("$", ""))
            whole_numbers(axis)
            label(axis, "epoch" if row == len(found) - 1 else "")
        losses.set_ylim(min(0, losses.get_ylim()[0]), None)
        rates.set_ylim(0, None)
        label(losses, y="loss (nats)")
        label(accuracy, y="accuracy (%)")
        label(rates, y="firing rate")
        losses.set_title(variant if len(found) > 1 else "")
    named = {line.get_label(): line for axis in axes for line in axis.lines}
    # of many layers only the first and the last; the colours show the order of the others
    hidden = [name for name in named if name.startswith("layer ")][1:-1] if len(layers) > 5 else []
    legend(figure, [line for name, line in named.items() if name not in hidden], maths=True)
    set_caption(
        figure,
        metrics,
        "Losses, accuracies and firing rates (spikes per neuron and time step) by epoch",
        "Training accuracy is that of augmented samples, during the epoch.",
        averaged(metrics),
    )
    return figure


@drawing(reads("firing_rates"), "the firing rate")
def firing_rates(page: Page, rates: pd.DataFrame) -> PrintedFigure:
    """Return a figure of the firing rate of every layer over the time steps, a panel for each variant."""
    found = variants(rates)
    figure, axes = page.panels(len(found), height=46, sharex=True, sharey=True)
    layers = rates["layer"].unique()
    colours = dict(zip(layers, sns.color_palette("viridis", len(layers)), strict=True))
    for axis, (variant, rows, _) in zip(axes, found, strict=True):
        for layer, of_layer in rows.groupby("layer", sort=False):
            points = over_seeds(of_layer, "time_step", "firing_rate").mean
            axis.plot(points.index, points, "o-", color=colours[layer], label=f"layer {layer}")
            name_means(axis, rows, "time_step", points, f"layer {layer}")
        axis.set_title(variant if len(found) > 1 else "")
        axis.set_xticks(time_ticks(rates["time_step"].max()))
    label_outer(axes, "time step $t$", "spikes per neuron and step")
    axes[0].set_ylim(0, None)  # of all panels, when all is drawn
    legend(figure, axes[0].lines)
    set_caption(figure, rates, "Firing rate of each layer on the test set", averaged(rates))
    return figure
