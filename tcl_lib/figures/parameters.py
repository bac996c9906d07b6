"""Figures of the parameters of a loss: of runs that differ in nothing else (`statistics.varied`)."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from tcl_lib.figures.results import BARS
from tcl_lib.figures.style import DOUBLE, SINGLE, drawing, entries, legend, over_seeds, panels, title
from tcl_lib.registry import LOSSES
from tcl_lib.runs import one_setting


@drawing
def sensitivity(runs: pd.DataFrame, width: float = DOUBLE) -> Figure:
    """Return a figure of the validation accuracy against temperature and weight, at t = 1 and T.

    `runs` is `statistics.varied(runs, "temperature", "temporal_weight")`. The accuracy is that on
    validation data because hyperparameters are chosen there.
    """
    names = {"temperature": "temperature τ", "temporal_weight": "weight of the temporal term"}
    several = runs.groupby("loss")["temperature"].nunique().max() > 1
    along, other = names if several else reversed(names)
    shown = [
        (loss, runs[runs["loss"] == loss], column)
        for loss in LOSSES
        for column in ("validation_accuracy_t1", "validation_accuracy")
        if loss in set(runs["loss"])
    ]
    columns = 4 if width > SINGLE else 2
    figure, axes = panels(len(shown), width, height=1.9, columns=columns, margin=0.7, sharey=True)
    values = sorted(runs[other].unique())
    colours = dict(zip(values, sns.color_palette("flare", len(values)), strict=True))
    for axis, (loss, rows, column) in zip(axes, shown, strict=True):
        for value, of_value in rows.groupby(other):
            points = over_seeds(of_value, along, column)
            drawn = {"marker": LOSSES[loss].marker, "color": colours[value], "elinewidth": 0.7}
            axis.errorbar(points.mean.index, points.mean, points.reach, **drawn)
        step = "1" if column.endswith("t1") else f"T = {rows['time_steps'].iloc[0]}"
        axis.set(title=f"{LOSSES[loss].label}, answer at t = {step}", xlabel=names[along])
        ticks = sorted(rows[along].unique())
        if ticks[0] > 0:
            axis.set_xscale("log")
        axis.xaxis.set_major_locator(FixedLocator(ticks))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_xticklabels([f"{tick:g}" for tick in ticks], rotation=90 if len(ticks) > 5 else 0)
    figure.supylabel("validation accuracy (%)")
    title(figure, one_setting(runs), _fixed(runs), f"{_seeds(runs)} a point", BARS)
    legend(figure, [Line2D([], [], color=colours[v], label=f"{names[other]} {v:g}") for v in values])
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
            points = over_seeds(rows, "positives", column)
            axis.errorbar(
                [order.index(words) + shift + 0.08 for words in points.mean.index],
                points.mean,
                points.reach,
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


def _fixed(runs: pd.DataFrame) -> str:
    """Return the other loss parameters of these runs that are not the defaults."""
    return "; ".join(sorted(set(runs["fixed"]) - {""}))


def _seeds(runs: pd.DataFrame) -> str:
    """Return the number of seeds of the points: "3 seeds", or "1 to 3 seeds"."""
    counts = np.unique(runs.groupby("variant")["seed"].nunique())
    fewest, most = counts.min(), counts.max()
    many = f"{most} seed{'s' if most > 1 else ''}"
    return many if fewest == most else f"{fewest} to {many}"
