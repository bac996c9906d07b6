"""Figures that compare the variants of one setting, each the mean over its seeds.

Every table has the columns setting, variant and seed, as `runs.table` and `runs.gather` make them.
"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tcl_lib.figures.style import (
    DOUBLE,
    SINGLE,
    drawing,
    entries,
    legend,
    over_seeds,
    panels,
    spread,
    time_ticks,
    title,
    variants,
    whole_numbers,
)
from tcl_lib.runs import one_setting

# From the lowest to the highest seed: never outside 0 to 100 %, and nothing is assumed about a few seeds.
SPREAD = "mean over the seeds, band: lowest to highest seed"
HOLLOW = {"ls": "--", "mfc": "white"}
BARS = "mean over the seeds, bars: lowest to highest seed"


@drawing
def accuracy_curves(accuracy: pd.DataFrame, width: float = DOUBLE) -> Figure:
    """Return a figure of the test accuracy when inference stops after t steps, and of step t alone.

    `accuracy` is the runs' `accuracy_by_step`. With event data a step is a frame. The band reaches from the
    lowest to the highest seed. If every variant has one seed, it is the 95 % interval for the number of test
    samples.
    """
    figure, (stopped, alone) = panels(2, width, height=2.4, margin=0.3, sharey=True)
    several = spread(accuracy)
    for label, rows, drawn in variants(accuracy):
        _band(stopped, rows, "time_step", "cumulative", label, drawn)
        _band(alone, rows, "time_step", "instantaneous", label, drawn)
        if not several:
            ends = rows["low"], rows["high"]
            stopped.fill_between(rows["time_step"], *ends, color=drawn["color"], alpha=0.12, lw=0)
    steps = "frames" if accuracy["events"].any() else "time steps"
    stopped.set(title=f"answer of the first t {steps}", xlabel=f"{steps} t before inference stops")
    alone.set(title=f"answer of {steps[:-1]} t alone", xlabel=f"{steps[:-1]} t")
    for axes in (stopped, alone):
        axes.set(ylabel="test accuracy (%)", xticks=time_ticks(accuracy["time_step"].max()))
    title(figure, one_setting(accuracy), SPREAD if several else "one seed, band: 95 % interval (Wilson)")
    legend(figure, entries(stopped))
    return figure


@drawing
def recalibration(accuracy: pd.DataFrame, width: float = DOUBLE) -> Figure:
    """Return a figure of the test accuracy by time step, plain and with batch norm recalibrated to each t.

    There is a panel for each variant. `accuracy` is `statistics.recalibrated` of the `accuracy_by_step`.
    """
    found = variants(accuracy)
    columns = 4 if width > SINGLE else 2
    figure, axes = panels(len(found), width, height=1.6, columns=columns, margin=0.7, sharey=True)
    steps = "frames" if accuracy["events"].any() else "time steps"
    for axis, (label, rows, drawn) in zip(axes, found, strict=True):
        _bars(axis, rows, "time_step", "cumulative", **drawn)
        _bars(axis, rows, "time_step", "recalibrated", **drawn | HOLLOW)
        axis.set(title=label, xticks=time_ticks(rows["time_step"].max()))
    figure.supxlabel(f"{steps} t before inference stops")
    figure.supylabel("test accuracy (%)")
    title(
        figure,
        one_setting(accuracy),
        "filled: batch norm as trained; hollow: recalibrated to t steps",
        BARS if spread(accuracy) else "one seed",
    )
    return figure


@drawing
def accuracy_by_energy(accuracy: pd.DataFrame, operations: pd.DataFrame, width: float = DOUBLE) -> Figure:
    """Return a figure of the test accuracy against the energy of a sample until inference stops.

    There is one marker for each time step. The tables are the runs' `accuracy_by_step` and `operations`.
    """
    by_step = operations.groupby(["run", "time_step"])[["energy_uj", "ann_energy_uj"]].sum()
    spent = by_step.groupby("run").cumsum().reset_index()
    table = accuracy.merge(spent, on=["run", "time_step"])
    figure, (axes,) = panels(1, width, height=2.6, margin=0.4)
    for label, rows, drawn in variants(table):
        spent_by, right = (over_seeds(rows, "time_step", of) for of in ("energy_uj", "cumulative"))
        bars = {"xerr": spent_by.reach, "yerr": right.reach, "elinewidth": 0.6}
        axes.errorbar(spent_by.mean, right.mean, label=label, **bars, **drawn)
    ann = spent["ann_energy_uj"].max()
    steps = table["time_step"].max()
    axes.set(
        xlabel="energy of synaptic operations (µJ a sample)",
        ylabel="test accuracy (%)",
        xlim=(0, None),
    )
    title(
        figure,
        one_setting(table),
        f"an ANN of the same shape: {ann:.4g} µJ",
        f"a marker a time step: inference stops after t = 1 to {steps}",
        BARS if spread(table) else "one seed",
    )
    legend(figure, entries(axes))
    return figure


@drawing
def training_curves(metrics: pd.DataFrame, width: float = DOUBLE) -> Figure:
    """Return a figure of validation accuracy and cross-entropy over the epochs, from the runs' `metrics`."""
    figure, axes = panels(3, width, height=2.2, margin=0.5)
    shown = {
        "validation_accuracy": ("answer of all time steps", "validation accuracy (%)"),
        "validation_accuracy_t1": ("answer of the first time step", "validation accuracy (%)"),
        "validation_cross_entropy": ("cross-entropy of the mean logits", "on validation data (nats)"),
    }
    found = variants(metrics)
    every = max(1, metrics["epoch"].nunique() // 4)  # markers at a few epochs, other ones for each variant
    for axis, (column, (name, unit)) in zip(axes, shown.items(), strict=True):
        for index, (label, rows, drawn) in enumerate(found):
            marked = {"markevery": (index * every // len(found), every)}
            _band(axis, rows, "epoch", column, label, drawn | marked)
        axis.set(title=name, xlabel="epoch", ylabel=unit)
        whole_numbers(axis)
    title(figure, one_setting(metrics), SPREAD if spread(metrics) else "one seed")
    legend(figure, entries(axes[0]))
    return figure


def _band(axes: Axes, rows: pd.DataFrame, x: str, y: str, label: str, drawn: dict) -> None:
    """Draw the mean of y over the seeds at every x, and a band from the lowest to the highest seed."""
    points = over_seeds(rows, x, y)
    axes.plot(points.mean.index, points.mean, label=label, **drawn)
    low, high = points.mean - points.reach[0], points.mean + points.reach[1]
    if (high > low).any():
        axes.fill_between(points.mean.index, low, high, color=drawn["color"], alpha=0.15, lw=0)


def _bars(axes: Axes, rows: pd.DataFrame, x: str, y: str, **drawn) -> None:
    """Draw the mean of y over the seeds at every x, and bars from the lowest to the highest seed."""
    points = over_seeds(rows, x, y)
    axes.errorbar(points.mean.index, points.mean, points.reach, elinewidth=0.6, **drawn)
