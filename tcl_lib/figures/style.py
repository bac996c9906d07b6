"""The style of all figures: presets of publishers, pages and their panels, legends and axes."""

import base64
import html
import io
from itertools import cycle, groupby
from types import MappingProxyType
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.textpath import TextPath

from tcl_lib.config.registry import LOSSES
from tcl_lib.figures.hover import overlay
from tcl_lib.figures.text import text_width
from tcl_lib.runs.names import in_order, loss_of
from tcl_lib.utils.checks import Positive, checked, one_of

MM = 1 / 25.4  # inches


class Preset(NamedTuple):
    """What a publisher asks of figures."""

    widths: tuple[float, ...]  # of its columns, in mm, the narrowest first
    fonts: tuple[str, ...]  # the first that is installed; the last comes with matplotlib
    size: float  # of text, in points
    mathematics: str  # matplotlib's font set for formulas


PRESETS = {
    "nature": Preset((89, 183), ("Arial", "Helvetica", "Liberation Sans", "DejaVu Sans"), 7, "custom"),
    "neurips": Preset((139.7,), ("STIXGeneral",), 9, "stix"),
    "ieee": Preset((88.9, 181.9), ("STIXGeneral",), 8, "stix"),
}

STYLE = sns.axes_style("ticks") | {
    "axes.edgecolor": "0.3",
    "axes.grid": True,
    "axes.linewidth": 0.6,
    "axes.prop_cycle": plt.cycler(color=sns.color_palette("colorblind")),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titley": 1.0,  # or matplotlib looks for ticks above the panels, in a tenth of the time of a figure
    "figure.dpi": 125,  # in a notebook: 900 pixels for two columns
    "grid.color": "0.9",
    "grid.linewidth": 0.4,
    "lines.linewidth": 1.0,
    "lines.markeredgewidth": 0.5,
    "lines.markersize": 3.5,
    "mathtext.fallback": "stixsans",
    "pdf.fonttype": 42,  # TrueType: text that is embedded and can be edited
    "savefig.dpi": 300,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "tcl",
    "text.parse_math": False,  # names of data may contain $
    "xtick.major.size": 2.5,
    "xtick.major.width": 0.6,
    "ytick.major.size": 2.5,
    "ytick.major.width": 0.6,
}
LARGEST = 61  # mm, side of a square panel
ALPHABET = "abcdefghijklmnopqrstuvwxyz"
LINES = ("-", "--", ":", "-.")  # for the variants of a loss


class PrintedFigure(Figure):
    """A figure with lettered panels and a caption. Notebooks show the caption below the figure."""

    caption = ""
    panels: tuple[Axes, ...] = ()
    style = MappingProxyType({})  # matplotlib's parameters

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.named: list = []  # what `hover.name_points` names

    def draw(self, renderer) -> None:
        with plt.rc_context(self.style):
            super().draw(renderer)

    def savefig(self, *arguments, **options) -> None:
        with plt.rc_context(self.style):
            self._lay_out()
            super().savefig(*arguments, **options)

    def _lay_out(self) -> None:
        """Find the layout, once for all files."""
        engine = self.get_layout_engine()
        if isinstance(engine, ConstrainedLayoutEngine):
            for _ in range(2):  # the first layout can change the ticks, and they the layout
                before = self._ticks()
                engine.execute(self)
                if self._ticks() == before:
                    break
            self.set_layout_engine(None)  # with "none", matplotlib would draw twice for every file

    def _ticks(self) -> list[list[float]]:
        return [list(axis.get_majorticklocs()) for axes in self.axes for axis in (axes.xaxis, axes.yaxis)]

    def _ipython_display_(self) -> None:
        from IPython.display import display  # only notebooks need IPython

        drawn = io.BytesIO()
        self.savefig(drawn, format="png", dpi="figure")
        picture = base64.b64encode(drawn.getbuffer()).decode()
        words = html.escape(self.caption)
        shown = f'<img alt="{words}" src="data:image/png;base64,{picture}"/>{overlay(self)}'
        shown = f'<div style="display: inline-block; position: relative">{shown}</div>'
        shown = f'<figure style="margin: 0">{shown}<figcaption>{words}</figcaption></figure>'
        display({"text/plain": self.caption, "text/html": shown}, raw=True)


class Page:
    """The width of a printed figure and the preset that it follows.

    Args:
        preset: nature, neurips or ieee.
        width: in mm; None for the preset's widest.

    Raises ValueError for another preset, or a width that is not positive.
    """

    def __init__(self, preset: str = "nature", width: float | None = None):
        self.preset = PRESETS[checked("preset", preset, one_of(PRESETS))]
        self.width = checked("width", width, Positive | None) or self.preset.widths[-1]
        self.wide = self.width > 120
        self.columns = 4 if self.width > 150 else 3 if self.wide else 2  # of panels, at most
        self.size = self.preset.size

    @property
    def style(self) -> dict:
        """matplotlib's parameters."""
        installed = {font.name for font in fontManager.ttflist}
        font = next((name for name in self.preset.fonts if name in installed), self.preset.fonts[-1])
        small = dict.fromkeys(("legend.fontsize", "xtick.labelsize", "ytick.labelsize"), self.size - 0.5)
        names = ("font.size", "axes.labelsize", "axes.titlesize", "figure.labelsize")
        return (
            STYLE
            | small
            | dict.fromkeys(names, self.size)
            | {
                "font.family": font,
                "mathtext.fontset": self.preset.mathematics,
                "mathtext.cal": font,
                "mathtext.rm": font,
                "mathtext.it": f"{font}:italic",
                "mathtext.bf": f"{font}:bold",
            }
        )

    def panels(
        self, count: int, height: float | None = None, columns: int | None = None, **options
    ) -> tuple[PrintedFigure, list[Axes]]:
        """Return a figure and its `count` panels, in at most `columns` columns; None for as many as fit.

        A row is `height` mm high, and a sixth less on a page of one column; with None, panels are squares.
        """
        rows = -(-count // (columns or self.columns))
        columns = -(-count // rows)  # of the same number of rows, the most even
        if height is None:
            height = min(self.width / columns, LARGEST)
        elif not self.wide:
            height *= 5 / 6
        size = self.width * MM, rows * height * MM
        options |= {"figsize": size, "layout": "constrained", "FigureClass": PrintedFigure}
        figure, axes = plt.subplots(rows, columns, squeeze=False, **options)
        for axis in axes.flat[count:]:
            axis.set_axis_off()
        figure.panels = tuple(axes.flat[:count])
        return figure, list(figure.panels)


def letter(figure: PrintedFigure) -> None:
    """Write (a), (b) and so on before the titles of the panels, if there are several."""
    for index, axis in enumerate(figure.panels if len(figure.panels) > 1 else []):
        mark = f"({ALPHABET[index]})" if index < 26 else f"({index + 1})"
        title, maths = axis.get_title(), axis.title.get_parse_math()
        axis.set_title("")
        axis.set_title(f"{mark} {title}".strip(), loc="left", parse_math=maths)


def label(axes: Axes, x: str | None = None, y: str | None = None) -> None:
    """Label the axes; what stands between $ signs is a formula."""
    if x is not None:
        axes.set_xlabel(x, parse_math=True)
    if y is not None:
        axes.set_ylabel(y, parse_math=True)


def label_outer(axes: list[Axes], x: str, y: str) -> None:
    """Label only the lowest panel of each column and the first of each row; the others share their axes."""
    columns = axes[0].get_gridspec().ncols
    for index, axis in enumerate(axes):
        lowest, first = index + columns >= len(axes), index % columns == 0
        axis.tick_params(labelbottom=lowest, labelleft=first)
        label(axis, x if lowest else None, y if first else None)


def legend(figure: Figure, handles: list, maths: bool = False, **options) -> None:
    """Add a legend below all panels, in as many columns as fit, and make room for it.

    With `maths`, what stands between $ signs is a formula.
    """
    labels = [handle.get_label() for handle in handles]
    size = plt.rcParams["legend.fontsize"]
    widest = max(map(text_width, labels), default=0)
    letter_width = TextPath((0, 0), ALPHABET, size=size).get_extents().width / len(ALPHABET)  # in points
    letters = 72 / letter_width * figure.get_figwidth()
    columns = max(1, min(len(handles), int(letters / (widest + 6))))
    rows = -(-len(handles) // columns)
    columns = -(-len(handles) // rows)  # of the same number of rows, the most even
    options = {
        "loc": "outside lower center",
        "ncols": columns,
        "frameon": False,
        "columnspacing": 1.2,
    } | options
    # matplotlib would leave out an entry whose label begins with an underscore
    drawn = figure.legend(handles, ["-"] * len(handles), **options)
    for text, words in zip(drawn.get_texts(), labels, strict=True):
        text.set(text=words, parse_math=maths)
    figure.set_figheight(figure.get_figheight() + (1.5 * rows + 0.5) * size / 72)


def entries(axes: Axes) -> list:
    """Return the legend handles of a panel."""
    return axes.get_legend_handles_labels()[0]


def variants(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame, dict]]:
    """Return (label, rows, line style) of every variant, in the order of the losses.

    The table has the column variant.
    """
    losses = {loss.label: loss for loss in LOSSES.values()}
    found = []
    for label, of_loss in groupby(in_order(table["variant"].unique()), loss_of):
        for variant, line in zip(of_loss, cycle(LINES), strict=False):
            drawn = {"color": losses[label].colour, "marker": losses[label].marker, "ls": line}
            found.append((variant, table[table["variant"] == variant], drawn))
    return found


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


def time_ticks(time_steps: int, most: int = 8) -> range:
    """Return the ticks of an axis of time steps: the first and, of many, every n-th."""
    return range(1, time_steps + 1, -(-time_steps // most))


def whole_numbers(axes: Axes) -> None:
    """Put the ticks of the x axis at whole numbers only."""
    axes.xaxis.get_major_locator().set_params(integer=True)
