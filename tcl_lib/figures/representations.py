"""Figures of representations: their similarity between time steps, and t-SNE."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import seaborn as sns
from joblib import cpu_count
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D

from tcl_lib.analysis.tsne import tsne_of_run
from tcl_lib.figures.drawing import NothingToDraw, drawing, reads, seeds, set_caption
from tcl_lib.figures.hover import name_points, runs_of
from tcl_lib.figures.results import averaged
from tcl_lib.figures.style import (
    MM,
    Page,
    PrintedFigure,
    entries,
    label,
    label_outer,
    legend,
    over_seeds,
    time_ticks,
    variants,
)
from tcl_lib.runs import Run, gather, load_run, one_setting
from tcl_lib.utils.checks import checked, one_of

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
MEASURES = {"cosine": "cosine similarity", "cka_debiased": "debiased linear CKA"}
SHOWN = {"cosine": "cosine", "cka": "cka_debiased"}


@drawing(reads("similarity"), "similarity of representations")
def similarity(
    page: Page, table: pd.DataFrame, measure: str = "cosine", relation: str = "within_sample"
) -> PrintedFigure:
    """Return heatmaps of the similarity between steps t and u, one for each variant, on one colour scale.

    Shown is the mean over the seeds, blank if a seed has no value and where it is 1 by definition.

    Args:
        measure: cosine or cka, which is debiased.
        relation: within_sample, within_class or between_classes.

    Raises ValueError for another measure or relation.
    """
    checked("measure", measure, one_of(SIMILARITY_LABELS))
    checked("relation", relation, one_of(SIMILARITY_LABELS[measure]))
    samples = SIMILARITY_LABELS[measure][relation]
    measure = SHOWN[measure]
    one_setting(table)
    rows = table[(table["measure"] == measure) & (table["relation"] == relation)]
    found = variants(rows)
    figure, axes = page.panels(len(found), sharex=True, sharey=True)
    means = [
        part.groupby(["time_step", "other_step"])["value"].mean(skipna=False).unstack()
        for _, part, _ in found
    ]
    by_definition = measure != "cosine" or relation == "within_sample"  # of a step and itself
    if by_definition:
        means = [mean.mask(np.eye(len(mean), dtype=bool)) for mean in means]
    known = np.array(means)[~np.isnan(means)]
    low, high = (known.min(), known.max()) if known.size else (0.0, 1.0)
    steps = range(1, len(means[0]) + 1)
    scale = {"vmin": min(low, high - 0.05), "vmax": high}  # a smaller range would show rounding errors
    for axis, (variant, _, _), mean in zip(axes, found, means, strict=True):
        mesh = axis.pcolormesh(steps, steps, mean, cmap="cividis", **scale)
        if len(steps) <= 5:
            _write_values(axis, mean, middle=sum(scale.values()) / 2, size=page.size - 1)
        axis.set(title=variant.replace(", ", "\n", 1), aspect="equal")
        axis.grid(False)
        axis.spines[:].set_visible(True)
    ticks = time_ticks(len(steps))
    axes[0].set(xticks=ticks, yticks=ticks, ylim=(len(steps) + 0.5, 0.5))  # the panels share them
    label_outer(axes, "time step $u$", "time step $t$")
    words = f"{MEASURES[measure]}: {samples}"
    bar = figure.colorbar(mesh, ax=axes, location="bottom", label=words, shrink=0.6, aspect=40)
    bar.outline.set_visible(False)
    figure.set_figheight(figure.get_figheight() + 14 * MM)
    set_caption(
        figure,
        rows,
        f"{MEASURES[measure][0].upper()}{MEASURES[measure][1:]} between time steps t and u ({samples})",
        f"Features of a sample of the test set; mean over {seeds(rows)}.",
        "The diagonal, 1 by definition, is left blank." if by_definition else "",
    )
    return figure


def _write_values(axes: Axes, table: pd.DataFrame, middle: float, size: float) -> None:
    for (step, other), value in table.stack().dropna().items():
        colour = "black" if value > middle else "white"
        place = {"ha": "center", "va": "center", "in_layout": False}
        axes.text(other, step, f"{value:.2f}", size=size, color=colour, **place)


@drawing(reads("accuracy_by_step", "similarity"), "similarity of representations")
def accuracy_by_similarity(
    page: Page, accuracy: pd.DataFrame, similarity: pd.DataFrame, measure: str = "cosine"
) -> PrintedFigure:
    """Return a figure of the accuracy at steps t < T against the similarity between steps t and T.

    There is a marker for each step; that of t = 1 is hollow. Step T is left out: it equals itself. Raises
    ValueError for a measure that is not cosine or cka, and for runs with one time step.
    """
    measure = SHOWN[checked("measure", measure, one_of(SHOWN))]
    last = similarity["other_step"] == similarity["time_steps"]
    earlier = similarity["time_step"] < similarity["time_steps"]
    same = (similarity["measure"] == measure) & (similarity["relation"] == "within_sample")
    to_last = similarity[last & same & earlier][["run", "time_step", "value"]]
    table = accuracy.merge(to_last, on=["run", "time_step"])
    if table.empty:
        raise NothingToDraw("no similarity of an earlier step to the last: it needs time_steps=2 or more")
    figure, axes = page.panels(2, height=52, sharey=True)
    shown = {"cumulative": "first $t$ steps", "instantaneous": "step $t$ alone"}
    for axis, (column, name) in zip(axes, shown.items(), strict=True):
        for variant, rows, drawn in variants(table):
            x, y = over_seeds(rows, "time_step", "value"), over_seeds(rows, "time_step", column)
            bars = {"xerr": x.reach, "yerr": y.reach, "elinewidth": 0.5}
            axis.errorbar(x.mean, y.mean, label=variant, **bars, **drawn | {"ls": ""})
            axis.plot(x.mean, y.mean, color=drawn["color"], ls=drawn["ls"], lw=0.5, alpha=0.4)
            name_points(axis, x.mean, y.mean, [f"{runs_of(rows)}: time step {t}" for t in x.mean.index])
            axis.plot(x.mean.iloc[:1], y.mean.iloc[:1], **drawn | {"ls": "", "mfc": "white", "zorder": 3})
        axis.set_title(name, parse_math=True)
        label(axis, MEASURES[measure] + (" " if page.wide else "\n") + "of steps $t$ and $T$")
    label(axes[0], y="test accuracy (%)")
    legend(figure, entries(axes[0]))
    set_caption(
        figure,
        table,
        "Test accuracy by the similarity of representations",
        "A marker is a time step t < T; hollow: t = 1. (a) When inference stops after t time steps."
        " (b) Of the answer at step t alone.",
        averaged(table, "bars"),
    )
    return figure


def _points(table: pd.DataFrame) -> pd.DataFrame:
    table = table[table["seed"] == table["seed"].min()]
    with ThreadPoolExecutor(cpu_count()) as pool:  # scikit-learn computes outside Python's lock
        started = {path: pool.submit(_points_of, path) for path in table["path"]}

        def points(run: Run) -> pd.DataFrame:
            return started[str(run.path)].result()

        found = gather(table, points)
    reasons = (future.exception() for future in started.values())
    if found.empty and (reason := next((e for e in reasons if isinstance(e, ValueError)), None)):
        raise NothingToDraw(str(reason))
    return found


def _points_of(path: str) -> pd.DataFrame:
    run = load_run(path)
    found = tsne_of_run(run)
    return found.assign(class_name=[run.classes[label] for label in found["label"]])


@drawing(lambda table: [_points(table)], "a sample of features")
def tsne(page: Page, points: pd.DataFrame) -> PrintedFigure:
    """Return a figure with the t-SNE of the features of all steps, two panels for each variant.

    The colour is the class in the upper panel, and the time step in the lower one. Shown are the runs with
    the lowest seed.
    """
    found = [variant for variant, _, _ in variants(points)]
    columns = min(len(found), 4 if page.wide or len(found) <= 4 else 3)
    groups = -(-len(found) // columns)
    figure, axes = page.panels(2 * groups * columns, columns=columns)
    side = figure.get_figheight() / MM / (2 * groups)
    grid = np.array(axes).reshape(groups, 2, columns)
    names = points.drop_duplicates("label").sort_values("label").set_index("label")["class_name"]
    colours = dict(zip(names.index, sns.color_palette("colorblind", len(names)), strict=True))
    time = {"cmap": "viridis", "norm": Normalize(1, max(2, points["time_step"].max()))}
    dots = {"s": (0.035 * side) ** 2 * 2, "lw": 0, "rasterized": True}
    figure.panels = tuple(grid[index // columns, 0, index % columns] for index in range(len(found)))
    for axis in axes:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(True)
    for index in range(groups * columns):
        by_class, by_time = grid[index // columns, :, index % columns]
        if index >= len(found):
            by_class.set_axis_off()
            by_time.set_axis_off()
            continue
        # mixed, that late steps do not cover the early ones
        rows = points[points["variant"] == found[index]].sample(frac=1, random_state=0)
        by_class.scatter(rows["x"], rows["y"], c=[colours[one] for one in rows["label"]], **dots)
        mesh = by_time.scatter(rows["x"], rows["y"], c=rows["time_step"], **time, **dots)
        shown = runs_of(rows)
        said = [
            f"{shown}: sample {row.sample}, {row.class_name}, t = {row.time_step}"
            for row in rows.itertuples()
        ]
        for axis in (by_class, by_time):
            name_points(axis, rows["x"], rows["y"], said)
        by_class.set_title(found[index].replace(", ", "\n", 1))
    steps = points["time_step"].max()
    bar = figure.colorbar(mesh, ax=axes, location="right", shrink=0.4, aspect=20, pad=0.01)
    bar.set_label("time step $t$", parse_math=True)
    bar.set_ticks(time_ticks(steps, most=5))
    bar.outline.set_visible(False)
    legend(
        figure,
        [Line2D([], [], ls="", marker="o", color=colours[one], label=names[one]) for one in names.index],
        handletextpad=0.1,
    )
    count = len(points[points["variant"] == found[0]].drop_duplicates("sample"))
    set_caption(
        figure,
        points,
        "t-SNE of the features of all time steps",
        f"{count} test samples, the same in each panel; coloured by class above, by time step below.",
        f"Seed {points['seed'].iloc[0]}.",
    )
    return figure
