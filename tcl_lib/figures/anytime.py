"""The figure of inference that stops when it is sure (`analysis.policies`)."""

import pandas as pd

from tcl_lib.analysis import policies
from tcl_lib.figures.drawing import drawing, reads, set_caption
from tcl_lib.figures.hover import name_means
from tcl_lib.figures.results import HOLLOW, averaged
from tcl_lib.figures.style import Page, PrintedFigure, entries, label_outer, legend, variants

NAMES = {
    "confidence": "confidence",
    "entropy": "entropy",
    "gap": "gap of the first two",
    "agreement": "agreement of steps",
}


@drawing(reads(policies.frontiers), "logits.npz")
def frontiers(page: Page, table: pd.DataFrame) -> PrintedFigure:
    """Return a figure of the test accuracy against the mean number of steps until inference stops.

    There is a panel for each policy. Points are means over the seeds: of the thresholds with the same mean
    number of steps on validation data.
    """
    found = [policy for policy in NAMES if policy in set(table["policy"])]
    figure, axes = page.panels(len(found), height=46, sharex=True, sharey=True)
    for axis, policy in zip(axes, found, strict=True):
        for variant, rows, drawn in variants(table):
            points = rows.groupby(["policy", "budget"])[["mean_steps", "accuracy"]].mean()
            line = drawn | {"markevery": 3}
            axis.plot(*points.loc[policy].to_numpy().T, label=variant, **line)
            name_means(axis, rows, "mean_steps", points.loc[policy].set_index("mean_steps")["accuracy"])
            axis.plot(*points.loc[policies.FIXED].to_numpy().T, **drawn | HOLLOW | {"ls": ""})
        axis.set_title(NAMES[policy])
    label_outer(axes, "mean inference time steps", "test accuracy (%)")
    legend(figure, entries(axes[0]))
    set_caption(
        figure,
        table,
        "Test accuracy by the mean number of time steps until inference stops",
        "A panel is a policy that stops when it is sure, with thresholds chosen on validation data.",
        "Hollow: all samples stop at the same step.",
        averaged(table),
        "A time step is a frame of the event camera." if table["events"].any() else "",
    )
    return figure
