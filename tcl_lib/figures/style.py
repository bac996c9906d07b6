"""The style of all figures, and the files they are written to.

A drawing function takes tables and the width of the printed column in inches. It returns a Figure that pyplot
does not hold any more, so that a notebook cell shows it once.
"""

import io
import logging
import textwrap
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tcl_lib.figures.text import FONT, draw_every_character, text_width
from tcl_lib.registry import LOSSES
from tcl_lib.utils import files

log = logging.getLogger(__name__)

# The columns of a two-column journal: 89 and 183 mm.
WIDTHS = {"single": 3.5, "double": 7.2}
SINGLE, DOUBLE = WIDTHS.values()
# No dates in the files: equal figures are equal files.
UNDATED = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}

STYLE = sns.axes_style("whitegrid") | {
    "axes.edgecolor": "0.3",
    "axes.labelsize": 7,
    "axes.linewidth": 0.6,
    "axes.prop_cycle": plt.cycler(color=sns.color_palette("colorblind")),
    "axes.titlesize": 7,
    "figure.constrained_layout.use": True,
    "figure.dpi": 125,  # in a notebook: 900 pixels for two columns
    "figure.labelsize": 7,
    "figure.titlesize": 7,
    "font.family": FONT,
    "font.size": 7,
    "grid.linewidth": 0.4,
    "legend.fontsize": 6.5,
    "lines.linewidth": 1.2,
    "lines.markeredgewidth": 0.5,
    "lines.markersize": 4,
    "pdf.fonttype": 42,  # TrueType: text that is embedded and can be edited
    "savefig.dpi": 300,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "tcl",
    "text.parse_math": False,  # names of data may contain $
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
}
LINES = ("-", "--", ":", "-.")  # for the variants of a loss


def drawing(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Return the drawing function with the project's style; it closes its figure in pyplot."""

    @wraps(draw)
    def styled(*arguments, **options) -> Figure:
        before = set(plt.get_fignums())
        try:
            with plt.rc_context(STYLE):
                figure = draw(*arguments, **options)
                draw_every_character(figure)
                return figure
        finally:
            for number in set(plt.get_fignums()) - before:
                plt.close(number)

    return styled


def save(name: str, folder: str | Path, draw: Callable[..., Figure], *arguments, **options) -> None:
    """Write a figure for both column widths as PDF, SVG and PNG.

    Args:
        name: start of the files' names: name-single.pdf, name-double.pdf and so on.
        folder: where to write them; it is made if it does not exist.
        draw: a drawing function of this package, called as `draw(*arguments, width=..., **options)`.

    Raises OSError if the folder cannot be written to.
    """
    folder = Path(folder)
    files.make_folder(folder)
    for column, width in WIDTHS.items():
        figure = draw(*arguments, width=width, **options)
        with plt.rc_context(STYLE):
            for _ in range(2):  # the first layout can change the ticks, and they the layout
                figure.draw_without_rendering()
            figure.set_layout_engine("none")  # no new layout for each file
            for suffix, metadata in UNDATED.items():
                drawn = io.BytesIO()
                figure.savefig(drawn, format=suffix, metadata=metadata)
                files.write(folder / f"{name}-{column}.{suffix}", drawn.getbuffer())


def show(name: str, folder: str | Path, draw: Callable[..., Figure], *arguments, **options) -> None:
    """`save` a figure and show it in the notebook; if a table has no rows, log that there is none."""
    from IPython.display import Image, display  # only notebooks need IPython

    if any(isinstance(table, pd.DataFrame) and table.empty for table in arguments):
        log.info("%s: nothing to draw", name)
    else:
        save(name, folder, draw, *arguments, **options)
        # the written file: showing the figure would draw it again, with fewer pixels
        display(Image(filename=Path(folder) / f"{name}-double.png", retina=True))


def variants(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame, dict]]:
    """Return (label with the number of seeds, rows, line style) of every variant, in the order of the losses.

    The table has the columns variant and seed.
    """
    found = []
    for loss in LOSSES.values():
        of_loss = [words for words in table["variant"].unique() if words.split(", ")[0] == loss.label]
        for index, variant in enumerate(sorted(of_loss, key=lambda words: (len(words), words))):
            rows = table[table["variant"] == variant]
            seeds = rows["seed"].nunique()
            drawn = {"color": loss.colour, "marker": loss.marker, "ls": LINES[index % len(LINES)]}
            label = f"{variant} ({seeds} seed{'s' if seeds > 1 else ''})"
            found.append((label, rows, drawn))
    return found


def panels(
    count: int, width: float, height: float, columns: int | None = None, margin: float = 0.0, **options
):
    """Return a figure and its `count` panels of `height` inches, in at most `columns` columns.

    By default all are in one row on a double column and in one column on a single one. `margin` is the height
    in inches of titles and legends above and below the panels.
    """
    if columns is None:
        columns = count if width > SINGLE else 1
    columns = min(columns, count)
    rows = -(-count // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(width, rows * height + margin), squeeze=False, **options
    )
    for axis in axes.flat[count:]:
        axis.set_axis_off()
    return figure, list(axes.flat[:count])


def title(figure: Figure, *lines: str) -> None:
    """Set the figure's title, with lines wrapped to its width."""
    letters = 20 * figure.get_figwidth()
    wrapped = [textwrap.fill(line, round(letters * len(line) / text_width(line))) for line in lines if line]
    figure.suptitle("\n".join(wrapped))


def legend(figure: Figure, handles: list, **options) -> None:
    """Add a legend below all panels, in as many columns as fit."""
    labels = [handle.get_label() for handle in handles]
    widest = max(map(text_width, labels), default=0)
    columns = max(1, min(len(handles), int(19 * figure.get_figwidth() / (widest + 7))))
    options |= {"loc": "outside lower center", "ncols": columns, "frameon": False}
    # matplotlib would leave out an entry whose label begins with an underscore
    drawn = figure.legend(handles, ["-"] * len(handles), **options)
    for text, label in zip(drawn.get_texts(), labels, strict=True):
        text.set_text(label)


def entries(axes: Axes) -> list:
    """Return the legend handles of a panel."""
    return axes.get_legend_handles_labels()[0]


class OverSeeds(NamedTuple):
    """The mean over the seeds at each x, and how far the lowest and the highest seed are from it."""

    mean: pd.Series  # [x]
    reach: np.ndarray  # [2, x], as matplotlib's error bars take it


def over_seeds(rows: pd.DataFrame, x: str, y: str) -> OverSeeds:
    """Return the values of y at each x, over the seeds."""
    points = rows.groupby(x)[y].agg(["mean", "min", "max"])
    reach = [points["mean"] - points["min"], points["max"] - points["mean"]]
    return OverSeeds(points["mean"], np.clip(reach, 0, None))  # the mean of equal values may round


def spread(table: pd.DataFrame) -> bool:
    """Return whether any variant has more than one seed."""
    return table.groupby("variant")["seed"].nunique().max() > 1


def time_ticks(time_steps: int) -> range:
    """Return the ticks of an axis of time steps: the first and, of many, every n-th, at most eight."""
    return range(1, time_steps + 1, 1 + time_steps // 8)


def whole_numbers(axes: Axes) -> None:
    """Put the ticks of the x axis at whole numbers only."""
    axes.xaxis.get_major_locator().set_params(integer=True)
