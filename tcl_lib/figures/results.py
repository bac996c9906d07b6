"""Figures that compare the variants of one setting, each the mean over its seeds.

Every table has the columns setting, variant and seed, as `runs.table` and `runs.gather` make them.
"""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from tcl_lib.figures.style import (
    DOUBLE,
    drawing,
    entries,
    legend,
    panels,
    spread,
    title,
    variants,
    whole_numbers,
)
from tcl_lib.registry import LOSSES
from tcl_lib.runs import one_setting

SPREAD = "mean over the seeds, band: ± 1 standard deviation"
BARS = "mean over the seeds, bars: ± 1 standard deviation"


@drawing
def accuracy_curves(accuracy: pd.DataFrame, width: float = DOUBLE) -> Figure:
    """Return a figure of the test accuracy when inference stops after t steps, and of step t alone.

    `accuracy` is the runs' `accuracy_by_step`. With event data a step is a frame. The band is the standard
    deviation over the seeds. If every variant has one seed, it is the 95 % interval for the number of test
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
        axes.set_ylabel("test accuracy (%)")
        whole_numbers(axes)
    title(figure, one_setting(accuracy), SPREAD if several else "one seed, band: 95 % interval (Wilson)")
    legend(figure, entries(stopped))
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
        points = rows.groupby("time_step")[["energy_uj", "cumulative"]].agg(["mean", "std"])
        axes.errorbar(
            points["energy_uj", "mean"],
            points["cumulative", "mean"],
            xerr=points["energy_uj", "std"].fillna(0),
            yerr=points["cumulative", "std"].fillna(0),
            label=label,
            elinewidth=0.6,
            **drawn,
        )
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
    dot = "o" if metrics["epoch"].nunique() == 1 else None  # a line through one epoch is not visible
    for axis, (column, (name, unit)) in zip(axes, shown.items(), strict=True):
        for label, rows, drawn in variants(metrics):
            _band(axis, rows, "epoch", column, label, drawn | {"marker": dot})
        axis.set(title=name, xlabel="epoch", ylabel=unit)
        whole_numbers(axis)
    title(figure, one_setting(metrics), SPREAD if spread(metrics) else "one seed")
    legend(figure, entries(axes[0]))
    return figure


@drawing
def sensitivity(runs: pd.DataFrame, width: float = DOUBLE) -> Figure:
    """Return a figure of the validation accuracy against temperature and weight, at t = 1 and T.

    `runs` is `statistics.varied(runs, "temperature", "temporal_weight")`. The accuracy is that on
    validation data because hyperparameters are chosen there.
    """
    names = {"temperature": "temperature τ", "temporal_weight": "weight of the temporal term"}
    along, other = names if runs["temperature"].nunique() > 1 else reversed(names)
    losses = [loss for loss in LOSSES if loss in set(runs["loss"])]
    shown = [
        (loss, column) for loss in losses for column in ("validation_accuracy_t1", "validation_accuracy")
    ]
    figure, axes = panels(len(shown), width, height=1.9, columns=2, margin=0.7, sharey=True)
    values = sorted(runs[other].unique())
    colours = sns.color_palette("flare", len(values))
    for axis, (loss, column) in zip(axes, shown, strict=True):
        for value, colour in zip(values, colours, strict=True):
            rows = runs[(runs["loss"] == loss) & (runs[other] == value)]
            points = rows.groupby(along)[column].agg(["mean", "std"])
            bars = points["std"].fillna(0)
            label = f"{names[other]} {value:g}"
            axis.errorbar(
                points.index,
                points["mean"],
                bars,
                elinewidth=0.7,
                fmt=f"{LOSSES[loss].marker}-",
                color=colour,
                label=label,
            )
        step = "1" if column.endswith("t1") else f"T = {runs['time_steps'].iloc[0]}"
        axis.set(
            title=f"{LOSSES[loss].label}, answer at t = {step}",
            xlabel=names[along],
            ylabel="validation accuracy (%)",
        )
        ticks = sorted(runs[along].unique())
        if ticks[0] > 0:
            axis.set_xscale("log")
        axis.xaxis.set_major_locator(FixedLocator(ticks))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_xticklabels([f"{tick:g}" for tick in ticks], rotation=90 if len(ticks) > 5 else 0)
    title(figure, one_setting(runs), _fixed(runs), f"{_seeds(runs)} a point", BARS)
    legend(figure, entries(axes[0]))
    return figure


@drawing
def positives(runs: pd.DataFrame, width: float = DOUBLE) -> Figure:
    """Return a figure of the test accuracy by the choice of positives, at t = 1 and t = T.

    `runs` is `statistics.varied(runs, "positives")`; its column positives holds those with an effect.
    Dots are single runs.
    """
    order = sorted(set(runs["positives"]), key=lambda words: (words.count("+"), words))
    losses = [loss for loss in LOSSES if loss in set(runs["loss"])]
    figure, axes = panels(2, width, height=2.3, margin=0.4, sharey=True)
    shown = {"test_accuracy_t1": "1", "test_accuracy": f"T = {runs['time_steps'].iloc[0]}"}
    for axis, (column, step) in zip(axes, shown.items(), strict=True):
        for index, loss in enumerate(losses):
            rows = runs[runs["loss"] == loss]
            shift = 0.24 * (index - (len(losses) - 1) / 2)
            places = rows["positives"].map(order.index) + shift
            axis.scatter(places, rows[column], s=7, color=LOSSES[loss].colour, alpha=0.5, lw=0)
            points = rows.groupby("positives")[column].agg(["mean", "std"])
            axis.errorbar(
                [order.index(words) + shift + 0.08 for words in points.index],
                points["mean"],
                points["std"].fillna(0),
                fmt=LOSSES[loss].marker,
                color=LOSSES[loss].colour,
                label=LOSSES[loss].label,
                capsize=2,
            )
        axis.set(title=f"answer at t = {step}", xlabel="positives", ylabel="test accuracy (%)")
        axis.set_xticks(range(len(order)), [words.replace("+", "\n+ ") for words in order])
        axis.set_xlim(-0.6, len(order) - 0.4)
        axis.grid(False, axis="x")
    title(figure, one_setting(runs), _fixed(runs), f"dots: a run each ({_seeds(runs)})", BARS)
    legend(figure, entries(axes[0]))
    return figure


def _band(axes: Axes, rows: pd.DataFrame, x: str, y: str, label: str, drawn: dict) -> None:
    """Draw the mean of y at every x, and the standard deviation as a band if there are several values."""
    points = rows.groupby(x)[y].agg(["mean", "std"])
    axes.plot(points.index, points["mean"], label=label, **drawn)
    if points["std"].notna().any():
        ends = points["mean"] - points["std"], points["mean"] + points["std"]
        axes.fill_between(points.index, *ends, color=drawn["color"], alpha=0.15, lw=0)


def _fixed(runs: pd.DataFrame) -> str:
    """Return the other loss parameters of these runs that are not the defaults."""
    return "; ".join(sorted(set(runs["fixed"]) - {""}))


def _seeds(runs: pd.DataFrame) -> str:
    """Return the number of seeds of the points: "3 seeds", or "1 to 3 seeds"."""
    counts = np.unique(runs.groupby("variant")["seed"].nunique())
    fewest, most = counts.min(), counts.max()
    many = f"{most} seed{'s' if most > 1 else ''}"
    return many if fewest == most else f"{fewest} to {many}"
