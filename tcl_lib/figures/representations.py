"""Figures of representations: their similarity between time steps, and t-SNE."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tcl_lib.figures.results import BARS
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
)
from tcl_lib.runs import one_setting

SIMILARITY_LABELS = {
    "cosine": {
        "within_sample": "a sample with itself",
        "within_class": "two samples of a class",
        "between_classes": "two samples of different classes",
    },
    "cka": {
        "within_sample": "all samples",
        "within_class": "deviations from class means",
        "between_classes": "class means",
    },
}
MEASURES = {
    "cosine": "cosine similarity",
    "cka": "linear CKA (not corrected for bias)",
    "cka_debiased": "debiased linear CKA",
}
# Ten markers that a reader can tell apart when they are small.
STEP_MARKERS = "osD^v<>pP*"
LARGEST = 2.4  # inches, side of a square panel


@drawing
def similarity(table: pd.DataFrame, measure: str, relation: str, width: float = DOUBLE) -> Figure:
    """Return heatmaps of the similarity between steps t and u, one for each variant, on one colour scale.

    Args:
        table: the runs' `similarity`; shown is the mean over the seeds, blank if a seed has no value.
        measure: cosine or cka; where runs have the debiased CKA, it is shown of these.
        relation: within_sample, within_class or between_classes.
        width: of the printed column, in inches.
    """
    samples = SIMILARITY_LABELS[measure][relation]
    measure = _debiased(measure, table)
    rows = table[(table["measure"] == measure) & (table["relation"] == relation)]
    found = variants(rows)
    columns = min(len(found), 4 if width > SINGLE else 2)
    height = min(width / columns, LARGEST)
    figure, axes = panels(len(found), width, height, columns=columns, margin=1.1, sharey=True)
    means = [
        part.groupby(["time_step", "other_step"])["value"].mean(skipna=False).unstack()
        for _, part, _ in found
    ]
    known = np.array(means)[~np.isnan(means)]
    low, high = (known.min(), known.max()) if known.size else (0.0, 1.0)
    steps = range(1, len(means[0]) + 1)
    scale = {"vmin": min(low, high - 0.05), "vmax": high}  # a smaller range would show rounding errors
    for axis, (label, _, _), mean in zip(axes, found, means, strict=True):
        mesh = axis.pcolormesh(steps, steps, mean, cmap="cividis", **scale)
        if len(steps) <= 5:
            _write_values(axis, mean, middle=sum(scale.values()) / 2)
        axis.set(title=label.replace(" (", "\n("), xlabel="time step u", ylabel="time step t")
        axis.set(aspect="equal", xticks=time_ticks(len(steps)), yticks=time_ticks(len(steps)))
        axis.set_ylim(len(steps) + 0.5, 0.5)
        axis.grid(False)
    label = f"{MEASURES[measure]}: {samples}"
    figure.colorbar(mesh, ax=axes, location="bottom", label=label, shrink=0.6, aspect=40)
    title(figure, one_setting(rows), "features of a sample of the test set; mean over the seeds")
    return figure


def _debiased(measure: str, table: pd.DataFrame) -> str:
    """Return the measure that is shown: the debiased CKA where there is one."""
    debiased = f"{measure}_debiased"
    return debiased if debiased in set(table["measure"]) else measure


def _write_values(axes: Axes, table: pd.DataFrame, middle: float) -> None:
    for (step, other), value in table.stack().dropna().items():
        colour = "black" if value > middle else "white"
        axes.text(other, step, f"{value:.2f}", ha="center", va="center", size=6, color=colour)


@drawing
def accuracy_by_similarity(
    accuracy: pd.DataFrame, similarity: pd.DataFrame, measure: str = "cosine", width: float = DOUBLE
) -> Figure:
    """Return a figure of the accuracy at step t against the similarity between steps t and T.

    There is one marker for each step. The tables are the runs' `accuracy_by_step` and `similarity`.
    """
    measure = _debiased(measure, similarity)
    last = similarity["other_step"] == similarity["time_steps"]
    same = (similarity["measure"] == measure) & (similarity["relation"] == "within_sample")
    to_last = similarity[last & same][["run", "time_step", "value"]]
    table = accuracy.merge(to_last, on=["run", "time_step"])
    figure, axes = panels(2, width, height=2.4, margin=0.3)
    shown = {"cumulative": "answer of the first t steps", "instantaneous": "answer of step t alone"}
    for axis, (column, name) in zip(axes, shown.items(), strict=True):
        for label, rows, drawn in variants(table):
            x, y = over_seeds(rows, "time_step", "value"), over_seeds(rows, "time_step", column)
            bars = {"xerr": x.reach, "yerr": y.reach, "elinewidth": 0.5, "lw": 0.6}
            axis.errorbar(x.mean, y.mean, label=label, **bars, **drawn)
            first = x.mean.iloc[0], y.mean.iloc[0]
            axis.annotate("1", first, (0, 3), textcoords="offset points", size=6, color=drawn["color"])
        axis.set(
            title=name,
            xlabel=f"{MEASURES[measure]} of step t to step T = {table['time_steps'].iloc[0]}",
            ylabel="test accuracy (%)",
        )
    title(
        figure,
        one_setting(table),
        "a marker a time step, from t = 1 (labelled) to T",
        BARS if spread(table) else "one seed",
    )
    legend(figure, entries(axes[0]))
    return figure


@drawing
def tsne(points: pd.DataFrame, classes: list[str], width: float = DOUBLE) -> Figure:
    """Return a figure with the t-SNE of the features of all steps, one panel for each run.

    The colour is the class, the marker the time step.

    Args:
        points: `runs.gather(table, tsne_of_run)`: setting, variant, seed, label, time_step, x and y.
        classes: the names of the labels.
        width: of the printed column, in inches.
    """
    runs = points["variant"].unique()
    columns = min(len(runs), 4 if width > SINGLE else 2)
    height = min(width / columns, LARGEST)
    figure, axes = panels(len(runs), width, height, columns=columns, margin=0.7)
    labels, steps = np.unique(points["label"]), np.unique(points["time_step"])
    colours = dict(zip(labels, sns.color_palette("colorblind", len(labels)), strict=True))
    markers = dict(zip(steps, STEP_MARKERS, strict=False))
    for axis, variant in zip(axes, runs, strict=True):
        for step in steps:
            rows = points[(points["variant"] == variant) & (points["time_step"] == step)]
            colour = [colours[label] for label in rows["label"]]
            axis.scatter(rows["x"], rows["y"], c=colour, marker=markers[step], s=7, lw=0, alpha=0.75)
        axis.set(title=variant, xticks=[], yticks=[], xlabel="t-SNE 1", ylabel="t-SNE 2")
    of_class = [
        Line2D([], [], ls="", marker="o", color=colours[label], label=classes[label]) for label in labels
    ]
    of_step = [Line2D([], [], ls="", marker=markers[s], color="0.3", label=f"t = {s}") for s in steps]
    legend(figure, of_class + of_step, handletextpad=0.1, columnspacing=1)
    samples = len(points) // len(runs) // len(steps)
    some = f"; {len(labels)} of {len(classes)} classes" if len(labels) < len(classes) else ""
    seed = points["seed"].iloc[0]
    title(figure, one_setting(points), f"{samples} test samples, the same in each panel; seed {seed}{some}")
    return figure
