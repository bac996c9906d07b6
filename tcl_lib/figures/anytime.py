"""The figure of inference that stops when it is sure (`analysis.policies`)."""

import pandas as pd
from matplotlib.figure import Figure

from tcl_lib.figures.results import HOLLOW
from tcl_lib.figures.style import DOUBLE, SINGLE, drawing, entries, legend, panels, spread, title, variants
from tcl_lib.runs import one_setting

NAMES = {
    "confidence": "confidence",
    "entropy": "entropy",
    "gap": "gap of the first two",
    "agreement": "agreement of steps",
}


@drawing
def frontiers(table: pd.DataFrame, width: float = DOUBLE) -> Figure:
    """Return a figure of the test accuracy against the mean number of steps until inference stops.

    There is a panel for each policy. `table` is `runs.gather(table, policies.frontiers)`. Points are means
    over the seeds: of the thresholds with the same mean number of steps on validation data.
    """
    found = [policy for policy in NAMES if policy in set(table["policy"])]
    columns = len(found) if width > SINGLE else 2
    figure, axes = panels(len(found), width, height=2.0, columns=columns, margin=0.7, sharey=True)
    steps = "frames" if table["events"].any() else "time steps"
    for axis, policy in zip(axes, found, strict=True):
        for label, rows, drawn in variants(table):
            points = rows.groupby(["policy", "budget"])[["mean_steps", "accuracy"]].mean()
            line = drawn | {"markevery": 3}
            axis.plot(*points.loc[policy].to_numpy().T, label=label, **line)
            axis.plot(*points.loc["fixed"].to_numpy().T, **drawn | HOLLOW | {"ls": ""})
        axis.set(title=f"stops by {NAMES[policy]}", xlabel=f"mean {steps} until it stops")
    figure.supylabel("test accuracy (%)")
    title(
        figure,
        one_setting(table),
        "thresholds chosen on validation data; hollow: all samples stop at the same step",
        "mean over the seeds" if spread(table) else "one seed",
    )
    legend(figure, entries(axes[0]))
    return figure
