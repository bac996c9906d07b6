"""The figure of the accuracy on corrupted test samples (`analysis.robustness`)."""

import pandas as pd

from tcl_lib.figures.drawing import drawing, set_caption
from tcl_lib.figures.results import averaged, bars
from tcl_lib.figures.style import Page, PrintedFigure, entries, label, legend, variants
from tcl_lib.runs import gather


def _corrupted(table: pd.DataFrame) -> list[pd.DataFrame]:
    from tcl_lib.analysis.robustness import robustness  # torch, for this alone

    return [gather(table, robustness)]


@drawing(_corrupted, "accuracy on corrupted samples")
def robustness(page: Page, table: pd.DataFrame) -> PrintedFigure:
    """Return a figure of the test accuracy by severity: of all steps, of the first, and the difference.

    The networks see the corrupted samples now, which takes a while; runs need weights and data. Severity 0
    are the clean samples; the others are means over the corruptions.
    """
    last = table["time_steps"].iloc[0]
    keys = ["variant", "seed", "severity", "time_step"]
    by_step = table.groupby(keys)["cumulative"].mean().unstack()
    shown = {
        "$t = T$": (by_step[last], "test accuracy (%)"),
        "$t = 1$": (by_step[1], "test accuracy (%)"),
        "$t = 1$ minus $t = T$": (by_step[1] - by_step[last], "percentage points"),
    }
    figure, axes = page.panels(3, height=48)
    axes[1].sharey(axes[0])
    for axis, (name, (values, unit)) in zip(axes, shown.items(), strict=True):
        for variant, rows, drawn in variants(values.rename("value").reset_index()):
            bars(axis, rows, "severity", "value", label=variant, **drawn)
        axis.set_title(name, parse_math=True)
        label(axis, "severity", unit)
    legend(figure, entries(axes[0]))
    kinds = ", ".join(sorted(set(table["corruption"]) - {"clean"})).replace("_", " ")
    set_caption(
        figure,
        table,
        "Test accuracy by the severity of corruptions",
        f"Inference stops after t time steps. Severity 0: clean samples; else the mean over {kinds}.",
        averaged(table, "bars"),
    )
    return figure
