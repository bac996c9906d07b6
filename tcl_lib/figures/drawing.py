"""What makes a function of tables a drawing function of runs, and how figures are written."""

import io
import shlex
from collections.abc import Callable, Iterable
from functools import update_wrapper
from pathlib import Path
from typing import Any
from unittest.mock import patch

import matplotlib.pyplot as plt
import pandas as pd
from fontTools import subset  # matplotlib embeds fonts with it

from tcl_lib import runs
from tcl_lib.analysis.statistics import mixed
from tcl_lib.config import RunConfig
from tcl_lib.config.registry import LOSS_PARAMETERS, LOSSES
from tcl_lib.config.rules import NOT_IN_IDENTITY
from tcl_lib.figures.style import PRESETS, Page, PrintedFigure, letter
from tcl_lib.figures.text import draw_every_character
from tcl_lib.runs import Run
from tcl_lib.utils import files

FORMATS: dict[str, dict] = {  # no dates in the files: equal figures are equal files
    "pdf": {"metadata": {"CreationDate": None}},
    "svg": {"metadata": {"Date": None}},
    "png": {"pil_kwargs": {"compress_level": 3}},  # a sixth larger than with 6, in half the time
}
# Where fontTools lists the tables of a font that it leaves out of a PDF, and that list with the tables for
# typesetting added. A PDF does not use them, and reading them takes a tenth of the time of a figure.
LIST_OF_TABLES = "_drop_tables_default"
LEFT_OUT = [*getattr(subset.Options, LIST_OF_TABLES, []), "GDEF", "GPOS", "GSUB"]


class NothingToDraw(ValueError):
    """Runs without what a figure shows; the message says what they lack or which command trains others."""


def reads(*what: str | Callable[[Run], pd.DataFrame]) -> Callable[[pd.DataFrame], list[pd.DataFrame]]:
    """Return the function that gathers these tables of the runs of a table; see `runs.gather`."""
    return lambda table: [runs.gather(table, one) for one in what]


def drawing(
    read: Callable[[Any], list[pd.DataFrame]], shown: str = "", vary: dict[str, list] | None = None
) -> Callable:
    """Decorate a function of a `Page` and tables: it then takes runs, `preset`, `width` and its own options.

    Args:
        read: returns the tables, from a table of runs.
        shown: what the tables hold, for the message where they hold nothing.
        vary: the parameters that the figure compares, with values that a grid could have.
    """

    def decorate(draw: Callable[..., PrintedFigure]) -> Callable[..., PrintedFigure]:
        def read_tables(found: Run | Iterable[Run] | pd.DataFrame) -> list[pd.DataFrame]:
            table = runs.table(found)
            tables = read(table)
            if any(one.empty for one in tables):
                raise NothingToDraw(_nothing(table, shown, vary or {}))
            return tables

        def draw_tables(
            tables: list, preset: str = "nature", width: float | None = None, **options
        ) -> PrintedFigure:
            return styled(draw, Page(preset, width), *tables, **options)

        def draw_runs(
            found: Run | Iterable[Run] | pd.DataFrame,
            preset: str = "nature",
            width: float | None = None,
            **options,
        ) -> PrintedFigure:
            return draw_tables(read_tables(found), preset, width, **options)

        update_wrapper(draw_runs, draw)
        del draw_runs.__wrapped__  # its signature is another one
        draw_runs.read, draw_runs.draw, draw_runs.varies = read_tables, draw_tables, bool(vary)
        return draw_runs

    return decorate


def styled(draw: Callable[..., PrintedFigure], page: Page, *arguments, **options) -> PrintedFigure:
    """Return what a function draws on a page, in its style; pyplot does not hold the figure any more."""
    before = set(plt.get_fignums())
    try:
        with plt.rc_context(page.style):
            figure = draw(page, *arguments, **options)
            figure.style = page.style
            letter(figure)
            draw_every_character(figure)
            return figure
    finally:
        for number in set(plt.get_fignums()) - before:
            plt.close(number)


def save(
    folder: str | Path,
    draw: Callable[..., PrintedFigure],
    found: Run | Iterable[Run] | pd.DataFrame,
    preset: str = "nature",
    width: float | None = None,
    **options,
) -> PrintedFigure:
    """Write a figure as PDF, SVG and PNG, for each width of the preset, and its caption; return the last one.

    Args:
        folder: where to write them; it is made if it does not exist.
        draw: a drawing function of this package.
        found: a run, a list of runs, or a table of runs.
        preset: nature (89 and 183 mm), neurips (140 mm) or ieee (89 and 182 mm).
        width: in mm, instead of the preset's widths.
        **options: of the drawing function.

    The files are named after the function, its options and the width: accuracy-by-step-89mm.pdf, and
    accuracy-by-step.txt for the caption. Raises ValueError where there is nothing to draw, OSError if the
    folder cannot be written to.
    """
    Page(preset, width)  # refuses what is not allowed, before anything is read
    return write(folder, draw, draw.read(found), preset, width, **options)


def write(
    folder: str | Path,
    draw: Callable[..., PrintedFigure],
    tables: list[pd.DataFrame],
    preset: str = "nature",
    width: float | None = None,
    **options,
) -> PrintedFigure:
    """Do as `save`, with the tables that the drawing function has read."""
    name = "-".join([draw.__name__, *map(str, options.values())]).replace("_", "-")
    files.make_folder(Path(folder))
    for one in [width] if width else PRESETS[preset].widths:
        figure = draw.draw(tables, preset, one, **options)
        for suffix, how in FORMATS.items():
            drawn = io.BytesIO()
            with patch.object(subset.Options, LIST_OF_TABLES, LEFT_OUT, create=True):
                figure.savefig(drawn, format=suffix, **how)
            files.write(Path(folder) / f"{name}-{one:.0f}mm.{suffix}", drawn.getbuffer())
    files.write(Path(folder) / f"{name}.txt", figure.caption + "\n")
    return figure


def set_caption(figure: PrintedFigure, table: pd.DataFrame, title: str, *sentences: str) -> None:
    """Give a figure its caption: what it shows, of which data, in which setting, and what it mixes."""
    data, *setting = *runs.names.titled_setting(table), *runs.names.tuned(table)
    count = table["run"].nunique() if "run" in table else len(table)
    figure.caption = " ".join(
        [
            f"{title} on {data}.",
            *filter(None, sentences),
            f"Setting: {'; '.join(setting)}; {count} run{'s'[: count > 1]}.",
            *filter(None, [mixed(table)]),
        ]
    )


def seeds(table: pd.DataFrame) -> str:
    """Return the number of seeds of the variants of a table: "3 seeds", or "1 to 3 seeds"."""
    counts = table.groupby("variant")["seed"].nunique()
    fewest, most = counts.min(), counts.max()
    many = f"{most} seed{'s' if most > 1 else ''}"
    return many if fewest == most else f"{fewest} to {many}"


def _nothing(table: pd.DataFrame, shown: str, vary: dict[str, list]) -> str:
    if not len(table):
        return "no runs"
    if vary:
        first, *_ = vary
        using = [loss for loss in LOSSES if loss in set(table["loss"]) and _uses(table, loss, first)]
        lists = {"losses": using or ["tcl"], first: vary[first]}
        return f"{shown} does not vary in these runs; to train such runs: {_command(table, lists)}"
    lists = {"losses": [loss for loss in LOSSES if loss in set(table["loss"])]}
    return f"{shown} is not in the files of these runs; to train them anew: {_command(table, lists)}"


def _uses(table: pd.DataFrame, loss: str, parameter: str) -> bool:
    path = table["path"][table["loss"] == loss].iloc[0]
    return parameter in runs.load_run(path).config.identity()


def _command(table: pd.DataFrame, lists: dict[str, list]) -> str:
    """Return the command that trains a grid in the setting of these runs, with their seeds."""
    config = runs.load_run(table["path"].iloc[0]).config
    left_out = {*LOSS_PARAMETERS, *NOT_IN_IDENTITY, "seed"} - {"plugin", "allow_duplicates"}
    given = {
        name: value
        for name, value in config.to_dict().items()
        if name not in left_out and value != RunConfig.default(name)
    }
    lists = lists | {"seeds": sorted(set(table["seed"]))}
    lists |= {name: [given.pop(name)] for name in ("time_steps", "batch_size") if name in given}
    lists |= {name: given.pop(name) for name in list(given) if isinstance(given[name], list)}
    options = "".join(f" -p {name} {shlex.quote(str(value))}" for name, value in given.items())
    listed = ", ".join(f"{name}: {str(values).replace(chr(39), '')}" for name, values in lists.items())
    return f'papermill notebooks/ablation.ipynb runs/ablation.ipynb{options} -y "{{{listed}}}"'
