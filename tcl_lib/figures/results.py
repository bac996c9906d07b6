"""Figures that compare the variants of one setting, each the mean over its seeds."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from tcl_lib.figures.drawing import drawing, reads, seeds, set_caption
from tcl_lib.figures.hover import name_means, name_points, runs_of
from tcl_lib.figures.style import (
    Page,
    PrintedFigure,
    entries,
    label,
    label_outer,
    legend,
    over_seeds,
    spread,
    time_ticks,
    variants,
    whole_numbers,
)

HOLLOW = {"ls": "--", "mfc": "white"}
INFERENCE = "inference time steps $t$"


def averaged(table: pd.DataFrame, drawn: str = "") -> str:
    """Return what of the seeds is drawn: their mean, and a band or bars.

    These reach from the lowest to the highest seed: never outside 0 to 100 %, and nothing is assumed about a
    few seeds.
    """
    if not spread(table):
        return "One seed."
    return f"Mean over {seeds(table)}" + (f"; {drawn}: lowest to highest seed." if drawn else ".")


@drawing(reads("accuracy_by_step"), "accuracy by time step")
def accuracy_by_step(page: Page, accuracy: pd.DataFrame) -> PrintedFigure:
    """Return a figure of the test accuracy when inference stops after t steps, and of step t alone.

    The band reaches from the lowest to the highest seed. If every variant has one seed, it is the 95 %
    interval for the number of test samples.
    """
    figure, (stopped, alone) = page.panels(2, height=52, sharey=True)
    several = spread(accuracy)
    for variant, rows, drawn in variants(accuracy):
        _band(stopped, rows, "time_step", "cumulative", variant, drawn)
        _band(alone, rows, "time_step", "instantaneous", variant, drawn)
        if not several:
            ends = rows["low"], rows["high"]
            stopped.fill_between(rows["time_step"], *ends, color=drawn["color"], alpha=0.12, lw=0)
    for axes in (stopped, alone):
        axes.set_xticks(time_ticks(accuracy["time_step"].max()))
    stopped.set_title("first $t$ steps", parse_math=True)
    alone.set_title("step $t$ alone", parse_math=True)
    label(stopped, INFERENCE, "test accuracy (%)")
    label(alone, "time step $t$")
    legend(figure, entries(stopped))
    set_caption(
        figure,
        accuracy,
        "Test accuracy by time step",
        "(a) When inference stops after t time steps. (b) Of the answer at step t alone.",
        averaged(accuracy, "band") if several else "One seed; band in (a): 95 % interval (Wilson).",
        "A time step is a frame of the event camera." if accuracy["events"].any() else "",
    )
    return figure


@drawing(reads("accuracy_by_step"), "accuracy with recalibrated batch norm")
def recalibration(page: Page, accuracy: pd.DataFrame) -> PrintedFigure:
    """Return a figure of the test accuracy by time step, plain and with batch norm recalibrated to each t.

    There is a panel for each variant.
    """
    found = variants(accuracy)
    figure, axes = page.panels(len(found), height=40, sharex=True, sharey=True)
    for axis, (variant, rows, drawn) in zip(axes, found, strict=True):
        bars(axis, rows, "time_step", "cumulative", **drawn)
        bars(axis, rows, "time_step", "recalibrated", **drawn | HOLLOW)
        axis.set(title=variant, xticks=time_ticks(rows["time_step"].max(), most=5))
    label_outer(axes, INFERENCE, "test accuracy (%)")
    grey = {"color": "0.3", "marker": "o"}
    legend(
        figure,
        [
            Line2D([], [], label="batch norm as trained", **grey),
            Line2D([], [], label="recalibrated to the first $t$ steps", **grey | HOLLOW),
        ],
        maths=True,
    )
    set_caption(
        figure,
        accuracy,
        "Test accuracy with batch norm as trained and recalibrated",
        "Inference stops after t time steps.",
        averaged(accuracy, "bars"),
    )
    return figure


@drawing(reads("accuracy_by_step", "operations"), "energy")
def accuracy_by_energy(page: Page, accuracy: pd.DataFrame, operations: pd.DataFrame) -> PrintedFigure:
    """Return a figure of the test accuracy against the energy of a sample until inference stops.

    There is one marker for each time step.
    """
    by_step = operations.groupby(["run", "time_step"])[["energy_uj", "ann_energy_uj"]].sum()
    spent = by_step.groupby("run").cumsum().reset_index()
    table = accuracy.merge(spent, on=["run", "time_step"])
    figure, (axes,) = page.panels(1, height=56)
    for variant, rows, drawn in variants(table):
        spent_by, right = (over_seeds(rows, "time_step", of) for of in ("energy_uj", "cumulative"))
        bars = {"xerr": spent_by.reach, "yerr": right.reach, "elinewidth": 0.6}
        axes.errorbar(spent_by.mean, right.mean, label=variant, **bars, **drawn)
        names = [f"{runs_of(rows)}: t = {t}" for t in right.mean.index]
        name_points(axes, spent_by.mean, right.mean, names)
    axes.set_xlim(0, None)
    label(axes, "energy of synaptic operations (µJ per sample)", "test accuracy (%)")
    legend(figure, entries(axes))
    set_caption(
        figure,
        table,
        "Test accuracy by energy",
        f"A marker is a time step: inference stops after t = 1 to {table['time_step'].max()}.",
        f"An ANN of the same shape needs {spent['ann_energy_uj'].max():.4g} µJ per sample.",
        averaged(table, "bars"),
    )
    return figure


@drawing(reads("metrics"), "the course of training")
def training_curves(page: Page, metrics: pd.DataFrame) -> PrintedFigure:
    """Return a figure of validation accuracy and cross-entropy over the epochs."""
    figure, axes = page.panels(3, height=46)
    shown = {
        "validation_accuracy": ("$t = T$", "validation accuracy (%)"),
        "validation_accuracy_t1": ("$t = 1$", "validation accuracy (%)"),
        "validation_cross_entropy": ("mean logits", "cross-entropy (nats)"),
    }
    found = variants(metrics)
    every = max(1, metrics["epoch"].nunique() // 4)  # markers at a few epochs, other ones for each variant
    for axis, (column, (name, unit)) in zip(axes, shown.items(), strict=True):
        for index, (variant, rows, drawn) in enumerate(found):
            marked = {"markevery": (index * every // len(found), every)}
            _band(axis, rows, "epoch", column, variant, drawn | marked)
        axis.set_title(name, parse_math=True)
        label(axis, "epoch", unit)
        whole_numbers(axis)
    legend(figure, entries(axes[0]))
    set_caption(
        figure,
        metrics,
        "Validation accuracy and cross-entropy by epoch",
        "Accuracy after (a) all time steps of the epoch and (b) the first;"
        " (c) cross-entropy of the mean logits.",
        averaged(metrics, "band"),
    )
    return figure


def _band(axes: Axes, rows: pd.DataFrame, x: str, y: str, name: str, drawn: dict) -> None:
    """Draw the mean of y over the seeds at every x, and a band from the lowest to the highest seed."""
    points = over_seeds(rows, x, y)
    axes.plot(points.mean.index, points.mean, label=name, **drawn)
    name_means(axes, rows, x, points.mean)
    low, high = points.mean - points.reach[0], points.mean + points.reach[1]
    if (high > low).any():
        axes.fill_between(points.mean.index, low, high, color=drawn["color"], alpha=0.1, lw=0)


def bars(axes: Axes, rows: pd.DataFrame, x: str, y: str, **drawn) -> None:
    """Draw the mean of y over the seeds at every x, and bars from the lowest to the highest seed."""
    points = over_seeds(rows, x, y)
    axes.errorbar(points.mean.index, points.mean, points.reach, elinewidth=0.6, **drawn)
    name_means(axes, rows, x, points.mean)
