"""One style for every figure: sizes and colours, names, and the files they are printed from.

A drawing function takes tables, and the width of the printed column in inches; it gives a Figure that pyplot
no longer holds, so that the last line of a notebook cell shows it once.
"""

import io
import logging
import textwrap
from collections.abc import Callable
from functools import wraps
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tcl_lib.config import LOSS_NAMES
from tcl_lib.utils import files

log = logging.getLogger(__name__)

# The columns of a two-column journal: 89 and 183 mm.
WIDTHS = {"single": 3.5, "double": 7.2}
SINGLE, DOUBLE = WIDTHS.values()
# What a file would say of the moment it was made: left out, so that equal figures are equal files.
UNDATED = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}

STYLE = sns.axes_style("whitegrid") | {
    "axes.edgecolor": "0.3",
    "axes.labelsize": 7,
    "axes.linewidth": 0.6,
    "axes.prop_cycle": plt.cycler(color=sns.color_palette("colorblind")),
    "axes.titlesize": 7,
    "figure.constrained_layout.use": True,
    "figure.dpi": 150,
    "figure.titlesize": 7,
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
    "font.size": 7,
    "grid.linewidth": 0.4,
    "legend.fontsize": 6.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "pdf.fonttype": 42,  # TrueType: text that is embedded and can be edited
    "savefig.dpi": 300,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "tcl",
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
}
# One colour and marker a loss, whichever of them a figure shows; told apart in print without colour too.
COLOURS = dict(zip(LOSS_NAMES, sns.color_palette("colorblind"), strict=False))
MARKERS = dict(zip(LOSS_NAMES, "osD^", strict=True))
LINES = ("-", "--", ":", "-.")  # of the variants of a loss


def drawing(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw in the project's style, and take the figure out of pyplot's hands."""

    @wraps(draw)
    def styled(*arguments, **options) -> Figure:
        before = set(plt.get_fignums())
        try:
            with plt.rc_context(STYLE):
                return draw(*arguments, **options)
        finally:
            for number in set(plt.get_fignums()) - before:
                plt.close(number)

    return styled


def save(name: str, folder: str | Path, draw: Callable[..., Figure], *arguments, **options) -> None:
    """Write a figure for both column widths as PDF, SVG and PNG.

    `draw(*arguments, **options)` is a function of this package; the files are
    `folder`/`name`-single.pdf and so on. Raises OSError where the folder cannot be written to.
    """
    folder = Path(folder)
    files.make_folder(folder)
    for column, width in WIDTHS.items():
        figure = draw(*arguments, width=width, **options)
        with plt.rc_context(STYLE):
            for _ in range(2):  # what the first pass moves can change the ticks
                figure.draw_without_rendering()
            figure.set_layout_engine("none")  # laid out now, and not for every file again
            for suffix, metadata in UNDATED.items():
                drawn = io.BytesIO()
                figure.savefig(drawn, format=suffix, metadata=metadata)
                files.write(folder / f"{name}-{column}.{suffix}", drawn.getbuffer())


def show(name: str, folder: str | Path, draw: Callable[..., Figure], *arguments, **options) -> None:
    """`save` a figure and show it in the notebook; where a table holds no rows, log that there is none."""
    from IPython.display import Image, display  # not where figures are drawn without a notebook

    if any(isinstance(table, pd.DataFrame) and table.empty for table in arguments):
        log.info("%s: nothing to draw", name)
    else:
        save(name, folder, draw, *arguments, **options)
        # what was written, and not the figure: it would be drawn once more, and less sharp
        display(Image(filename=Path(folder) / f"{name}-double.png", retina=True))


def variants(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame, dict]]:
    """The rows of every variant, its name with n, and how its lines are drawn, the losses in order.

    Takes a table with the columns variant and seed.
    """
    found = []
    for loss, name in LOSS_NAMES.items():
        of_loss = [variant for variant in table["variant"].unique() if variant.split(", ")[0] == name]
        for index, variant in enumerate(sorted(of_loss, key=lambda words: (len(words), words))):
            rows = table[table["variant"] == variant]
            seeds = rows["seed"].nunique()
            drawn = {"color": COLOURS[loss], "marker": MARKERS[loss], "ls": LINES[index % len(LINES)]}
            label = f"{variant} ({seeds} seed{'s' if seeds > 1 else ''})"
            found.append((label, rows, drawn))
    return found


def panels(
    count: int, width: float, height: float, columns: int | None = None, margin: float = 0.0, **options
):
    """A figure with `count` panels of `height` inches, at most `columns` beside each other.

    By default they stand beside each other on a double column, below each other on a single one. `margin` is
    the height of what stands above and below the panels, where it is not small beside them.
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
    """What the figure is of, in lines that fit its width."""
    characters = round(20 * figure.get_figwidth())
    figure.suptitle("\n".join(textwrap.fill(line, characters) for line in lines if line))


def legend(figure: Figure, handles: list, **options) -> None:
    """A legend below all panels, where nothing is covered, in as many columns as fit."""
    widest = max((len(handle.get_label()) for handle in handles), default=0)
    columns = max(1, min(len(handles), int(19 * figure.get_figwidth() / (widest + 7))))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, **options)


def entries(axes: Axes) -> list:
    """What a panel has for a legend."""
    return axes.get_legend_handles_labels()[0]


def spread(table: pd.DataFrame) -> bool:
    """Whether a variant has more than one seed."""
    return table.groupby("variant")["seed"].nunique().max() > 1


def whole_numbers(axes: Axes) -> None:
    """Ticks of the x axis at whole numbers alone."""
    axes.xaxis.get_major_locator().set_params(integer=True)
