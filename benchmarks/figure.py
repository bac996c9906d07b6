"""The figure of a benchmark: time and memory of a training step over T."""

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator, ScalarFormatter

from tcl_lib.figures.style import DOUBLE, drawing, entries, legend, panels, title

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


@drawing
def speed(table: pd.DataFrame, width: float = DOUBLE) -> Figure:
    """Return time (medians and quartiles) and peak memory over T, from the table of `speed.measure`."""
    figure, (time, memory) = panels(2, width, height=2.5, margin=0.8)
    for (subject, precision), rows in table.groupby(["subject", "precision"], sort=False):
        drawn = {"color": COLOURS[subject], "marker": MARKERS[subject]} | STYLES[precision]
        label = f"{NAMES[subject]}, {PRECISIONS[precision]}"
        steps, median = rows["time_steps"], rows["median_ms"]
        time.errorbar(
            steps, median, [median - rows["low_ms"], rows["high_ms"] - median], label=label, **drawn
        )
        memory.plot(steps, rows["peak_memory_mb"], **drawn)
    time.set(title="time", ylabel="ms per step (median, quartiles)")
    memory.set(title="memory", ylabel="peak memory of a step (MB)")
    for axes in (time, memory):
        _double_logarithmic(axes, sorted(table["time_steps"].unique()))
    first = table.iloc[0]
    title(
        figure,
        f"{first['backbone']}, {first['batch_size']} images of {first['image_size']} x {first['image_size']},"
        f" forward, backward and update, {first['rounds']} interleaved rounds",
        f"{first['machine']}, torch {first['torch']}",
    )
    legend(figure, entries(time))
    return figure


def _double_logarithmic(axes: Axes, steps: list[int]) -> None:
    axes.set(xscale="log", yscale="log", xlabel="time steps T", xticks=steps)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(NullFormatter())
