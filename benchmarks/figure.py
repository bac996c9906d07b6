"""The figure of a benchmark: time and memory of a training step over T."""

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator, ScalarFormatter

from tcl_lib.figures.drawing import drawing
from tcl_lib.figures.style import Page, PrintedFigure, entries, label, legend

NAMES = {
    "tcl_lib": "this study",
    "ReLU": "ReLU (limit)",
    "spikingjelly": "SpikingJelly",
    "snntorch": "snnTorch",
    "norse": "Norse",
}
# Each subject has its own colour and marker, whichever other subjects a figure shows.
COLOURS = dict(zip(NAMES, sns.color_palette("colorblind"), strict=False))
MARKERS = dict(zip(NAMES, "oDs^v", strict=True))
PRECISIONS = {"32-true": "float32", "bf16-mixed": "bf16"}
# bf16 has a dashed line and hollow markers, which also show where there is a single T and no line.
STYLES = {"32-true": {"ls": "-"}, "bf16-mixed": {"ls": "--", "mfc": "white"}}


@drawing(lambda table: [table])
def speed(page: Page, table: pd.DataFrame) -> PrintedFigure:
    """Return time (medians and quartiles) and peak memory over T, from the table of `speed.measure`."""
    figure, (time, memory) = page.panels(2, height=58)
    for (subject, precision), rows in table.groupby(["subject", "precision"], sort=False):
        drawn = {"color": COLOURS[subject], "marker": MARKERS[subject]} | STYLES[precision]
        name = f"{NAMES[subject]}, {PRECISIONS[precision]}"
        steps, median = rows["time_steps"], rows["median_ms"]
        time.errorbar(steps, median, [median - rows["low_ms"], rows["high_ms"] - median], label=name, **drawn)
        memory.plot(steps, rows["peak_memory_mb"], **drawn)
    label(time, "time steps $T$", "ms per step")
    label(memory, "time steps $T$", "peak memory (MB)")
    for axes in (time, memory):
        _double_logarithmic(axes, sorted(table["time_steps"].unique()))
    legend(figure, entries(time))
    first = table.iloc[0]
    figure.caption = (
        "Time and memory of a training step (forward, backward and update)."
        f" {first['backbone']}, {first['batch_size']} images of {first['image_size']} x"
        f" {first['image_size']}. (a) Median and quartiles of {first['rounds']} rounds. (b) Peak memory."
        f" {first['machine']}, torch {first['torch']}."
    )
    return figure


def _double_logarithmic(axes: Axes, steps: list[int]) -> None:
    axes.set(xscale="log", yscale="log", xticks=steps)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(NullFormatter())
