"""Figures of the parameters of a loss: of runs that differ in nothing else (`statistics.varied`)."""

import pandas as pd
import seaborn as sns
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from tcl_lib.analysis.statistics import varied
from tcl_lib.config.registry import LOSSES
from tcl_lib.figures.drawing import drawing, set_caption
from tcl_lib.figures.hover import name_points
from tcl_lib.figures.results import averaged
from tcl_lib.figures.style import Page, PrintedFigure, entries, label, legend, over_seeds


def _temperatures(table: pd.DataFrame) -> list[pd.DataFrame]:
    found = varied(table, "temperature", "temporal_weight")
    without_temperature = varied(table[~table["loss"].isin(found["loss"])], "temporal_weight")
    return [pd.concat([found, without_temperature])]


def _positives(table: pd.DataFrame) -> list[pd.DataFrame]:
    return [varied(table, "positives")]


@drawing(_temperatures, "temperature or weight", vary={"temperature": [0.05, 0.1, 0.2]})
def sensitivity(page: Page, table: pd.DataFrame) -> PrintedFigure:
    """Return a figure of the validation accuracy against temperature and weight, at t = 1 and T.

    The accuracy is that on validation data because hyperparameters are chosen there. A loss without a
    temperature is shown by its weight.
    """
    words = {"temperature": r"temperature $\tau$", "temporal_weight": "weight of the temporal term"}
    several = table.groupby("loss")["temperature"].nunique().max() > 1
    along, other = words if several else reversed(words)
    shown = [
        (loss, table[table["loss"] == loss], column)
        for loss in LOSSES
        for column in ("validation_accuracy_t1", "validation_accuracy")
        if loss in set(table["loss"])
    ]
    figure, axes = page.panels(len(shown), height=48, sharey=True)
    values = sorted(table.dropna(subset=words)[other].unique())
    colours = dict(zip(values, sns.color_palette("flare", len(values)), strict=True))
    for axis, (loss, rows, column) in zip(axes, shown, strict=True):
        x, hue = (along, other) if rows[along].notna().all() else (other, along)
        for value, of_value in rows.groupby(hue, dropna=False):
            points = over_seeds(of_value, x, column)
            drawn = {"marker": LOSSES[loss].marker, "color": colours.get(value, "0.4"), "elinewidth": 0.7}
            axis.errorbar(points.mean.index, points.mean, points.reach, **drawn)
            of_line = f"{hue.replace('_', ' ')} {value:g}, " if value in colours else ""
            start = f"{LOSSES[loss].label}: {of_line}{x.replace('_', ' ')}"
            names = [f"{start} {at:g}, {mean:.4g}" for at, mean in points.mean.items()]
            name_points(axis, points.mean.index, points.mean, names)
        step = "1" if column.endswith("t1") else f"T = {rows['time_steps'].iloc[0]}"
        axis.set_title(f"{LOSSES[loss].label}, $t = {step}$", parse_math=True)
        label(axis, words[x], "validation accuracy (%)" if axis.get_subplotspec().is_first_col() else None)
        ticks = sorted(rows[x].unique())
        if ticks[0] > 0:
            axis.set_xscale("log")
        axis.xaxis.set_major_locator(FixedLocator(ticks))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_xticklabels([f"{tick:g}" for tick in ticks], rotation=90 if len(ticks) > 5 else 0)
    name = {"temperature": "temperature", "temporal_weight": "weight"}[other]
    if values:
        legend(figure, [Line2D([], [], color=colours[v], label=f"{name} {v:g}") for v in values])
    set_caption(
        figure,
        table,
        "Validation accuracy by temperature and weight of the temporal term",
        "Inference stops after t time steps.",
        _fixed(table),
        averaged(table, "bars"),
    )
    return figure


@drawing(_positives, "the choice of positives", vary={"positives": [["class"], ["class", "time"]]})
def positives(page: Page, table: pd.DataFrame) -> PrintedFigure:
    """Return a figure of the test accuracy by the choice of positives, at t = 1 and t = T.

    Dots are single runs.
    """
    order = sorted(set(table["positives"]), key=lambda words: (words.count("+"), words))
    losses = [loss for loss in LOSSES if loss in set(table["loss"])]
    figure, axes = page.panels(2, height=60, columns=2 if page.wide else 1, sharey=True)
    shown = {"test_accuracy_t1": "1", "test_accuracy": f"T = {table['time_steps'].iloc[0]}"}
    for axis, (column, step) in zip(axes, shown.items(), strict=True):
        for index, loss in enumerate(losses):
            rows = table[table["loss"] == loss]
            shift = 0.24 * (index - (len(losses) - 1) / 2)
            places = rows["positives"].map(order.index) + shift
            names = [
                f"{row.variant}, seed {row.seed}: {getattr(row, column):.4g}" for row in rows.itertuples()
            ]
            name_points(axis, places, rows[column], names)
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
        axis.set_title(f"$t = {step}$", parse_math=True)
        label(axis, "positives", "test accuracy (%)")
        axis.label_outer()
        axis.set_xticks(range(len(order)), [words.replace("+", "\n+ ") for words in order])
        axis.set_xlim(-0.6, len(order) - 0.4)
        axis.grid(False, axis="x")
    legend(figure, entries(axes[0]))
    set_caption(
        figure,
        table,
        "Test accuracy by the choice of positives",
        "Inference stops after t time steps. A dot is a run.",
        _fixed(table),
        averaged(table, "bars"),
    )
    return figure


def _fixed(table: pd.DataFrame) -> str:
    """Return the other loss parameters of these runs that are not the defaults, as a sentence."""
    fixed = "; ".join(sorted(set(table["fixed"]) - {""}))
    return f"Other parameters: {fixed}." if fixed else ""
