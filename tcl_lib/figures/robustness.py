"""The figure of the accuracy on corrupted test samples (`analysis.robustness`)."""

import pandas as pd
from matplotlib.figure import Figure

from tcl_lib.figures.results import BARS
from tcl_lib.figures.style import (
    DOUBLE,
    drawing,
    entries,
    legend,
    over_seeds,
    panels,
    spread,
    title,
    variants,
)
from tcl_lib.runs import one_setting


@drawing
def robustness(table: pd.DataFrame, width: float = DOUBLE) -> Figure:
    """Return a figure of the test accuracy by severity: of all steps, of the first, and the difference.

    `table` is `runs.gather(table, analysis.robustness)`. Severity 0 are the clean samples; the others are
    means over the corruptions in the table.
    """
    last = table["time_steps"].iloc[0]
    keys = ["variant", "seed", "severity", "time_step"]
    by_step = table.groupby(keys)["cumulative"].mean().unstack()
    step = "frame" if table["events"].any() else "step"
    shown = {
        f"answer of all {last} {step}s": (by_step[last], "test accuracy (%)"),
        f"answer of the first {step}": (by_step[1], "test accuracy (%)"),
        f"first {step} minus all {last}": (by_step[1] - by_step[last], "percentage points"),
    }
    figure, axes = panels(len(shown), width, height=2.2, margin=0.7)
    axes[1].sharey(axes[0])
    for axis, (name, (values, unit)) in zip(axes, shown.items(), strict=True):
        for label, rows, drawn in variants(values.rename("value").reset_index()):
            points = over_seeds(rows, "severity", "value")
            axis.errorbar(points.mean.index, points.mean, points.reach, label=label, elinewidth=0.5, **drawn)
        axis.set(title=name, xlabel="severity of the corruption", ylabel=unit)
    kinds = ", ".join(sorted(set(table["corruption"]) - {"clean"})).replace("_", " ")
    title(figure, one_setting(table), f"mean over {kinds}", BARS if spread(table) else "one seed")
    legend(figure, entries(axes[0]))
    return figure
