"""Figures of one run: its data, learning curves and firing rates."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from tcl_lib.figures.style import DOUBLE, STYLE, drawing, panels, time_ticks, title, whole_numbers


@drawing
def views(rows: np.ndarray, names: list[str], data: str, side: int = 64) -> Figure:
    """Return a figure of samples as stored and as augmented.

    Args:
        rows: uint8 [R, N, C, H, W], R rows of N pictures; C is 1 or 3.
        names: the R names of the rows.
        data: what the figure calls the data.
        side: size of a picture in the figure, in pixels. A small picture is magnified by a whole number; of a
            large one every n-th pixel is shown. Both are sharp and make small PNG files.
    """
    channels, largest = rows.shape[2], max(rows.shape[3:])
    scale, step = max(1, round(side / largest)), max(1, round(largest / side))
    gap, left, top, dpi = 4, 60, 26, STYLE["figure.dpi"]
    tiles = rows[..., ::step, ::step].repeat(scale, 3).repeat(scale, 4)
    tiles = np.pad(tiles, [(0, 0)] * 3 + [(gap, 0)] * 2, constant_values=225)  # [R, N, C, H', W']
    mosaic = tiles.transpose(0, 3, 1, 4, 2).reshape(len(rows) * tiles.shape[3], -1, channels)
    high, wide = mosaic.shape[:2]
    figure = plt.figure(figsize=((left + wide) / dpi, (top + high) / dpi), layout="none")
    axes = figure.add_axes((left / (left + wide), 0, wide / (left + wide), high / (top + high)))
    axes.set_title(data, loc="left")
    rgb = mosaic.repeat(3, axis=2) if channels == 1 else mosaic
    axes.imshow(rgb, interpolation="nearest")
    axes.set(xticks=[], yticks=(np.arange(len(rows)) + 0.5) * high / len(rows), yticklabels=names)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.grid(False)
    return figure


@drawing
def learning_curves(metrics: pd.DataFrame, width: float = DOUBLE) -> Figure:
    """Return a figure of losses, accuracies and firing rates over the epochs, from a run's `metrics`."""
    figure, (losses, accuracy, rates) = panels(3, width, height=2.5, margin=0.5)
    dot = "o" if len(metrics) == 1 else None  # a line through one epoch is not visible
    columns = list(metrics)
    terms = columns[columns.index("loss") + 1 : columns.index("train_accuracy")]
    for name in [*(["loss"] if len(terms) > 1 else []), *terms, "validation_cross_entropy"]:
        losses.plot(metrics["epoch"], metrics[name], marker=dot, label=name.replace("_", " "))
    losses.set(title="loss", ylabel="nats", ylim=(min(0, losses.get_ylim()[0]), None))
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
    title(figure, ", ".join(metrics["data"].unique()))
    for axes in (losses, accuracy, rates):
        axes.set_xlabel("epoch")
        whole_numbers(axes)
        # of many layers only the first and the last; the colours show the order of the others
        named = axes.lines if len(axes.lines) <= 5 else [axes.lines[0], axes.lines[-1]]
        axes.legend(handles=named, loc="upper center", bbox_to_anchor=(0.5, -0.2), frameon=False)
    return figure


@drawing
def firing_rates(rates: pd.DataFrame, width: float = DOUBLE) -> Figure:
    """Return a figure of the firing rate of every layer over the time steps, from a run's `firing_rates`."""
    figure, (axes,) = panels(1, width, height=2.3)
    layers = rates["layer"].unique()
    for layer, colour in zip(layers, sns.color_palette("viridis", len(layers)), strict=True):
        rows = rates[rates["layer"] == layer]
        axes.plot(rows["time_step"], rows["firing_rate"], "o-", color=colour, label=f"layer {layer}")
    axes.set(xlabel="time step t", ylabel="spikes a neuron and step", ylim=(0, None))
    title(figure, f"{', '.join(rates['data'].unique())}: firing rates on the test set")
    axes.set_xticks(time_ticks(rates["time_step"].max()))
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), ncols=1 + len(layers) // 10, frameon=False)
    return figure
