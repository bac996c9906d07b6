"""Figures and tables of the runs of every setting, shown in a notebook and written to a folder for each."""

import gc
import html
import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pandas as pd
from filelock import FileLock

from tcl_lib.analysis import statistics, tables
from tcl_lib.figures.drawing import NothingToDraw, write
from tcl_lib.figures.style import Page, PrintedFigure
from tcl_lib.runs.names import setting_in_words
from tcl_lib.utils import files

log = logging.getLogger(__name__)

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Figures and tables</title>
<style>
  body {{ font-family: sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; }}
  figure {{ margin: 2em 0; }}
  img {{ max-width: 100%; }}
  figcaption {{ color: #444; }}
  pre {{ overflow-x: auto; }}
</style>
{content}
</html>
"""


class Gallery:
    """The figures of the settings of a table of runs.

    Args:
        table: of runs, of one setting or several.
        folder: each setting has a folder in it; index.html shows what lies there.
        preset: nature, neurips or ieee.
        width: of the figures in mm, instead of the preset's.

    Figures show one variant of each loss (`statistics.main_variants`), but those of varied parameters show
    all. Raises ValueError where there are no runs, and for a preset or width that is not allowed.
    """

    def __init__(self, table: pd.DataFrame, folder: Path, preset: str = "nature", width: float | None = None):
        Page(preset, width)
        self.settings = statistics.settings(table)
        self.main = {name: statistics.main_variants(rows) for name, rows in self.settings.items()}
        self.titles = {name: setting_in_words(rows) for name, rows in self.settings.items()}
        self.folder, self.preset, self.width = folder, preset, width
        self._read = cache(lambda draw, name: draw.read((self.settings if draw.varies else self.main)[name]))
        gc.freeze()  # the garbage collector skips what is loaded by now: figures take a fifth less time

    def __str__(self) -> str:
        return "\n".join(
            f"{name}: {len(self.main[name])} of {len(rows)} runs of {self.titles[name]}:"
            f" {', '.join(self.main[name]['variant'].unique())}"
            for name, rows in self.settings.items()
        )

    def show(self, draw: Callable[..., PrintedFigure], heading: str = "", **options) -> None:
        """Write and display a figure of every setting; where there is nothing to draw, one line says why.

        Args:
            draw: a drawing function of `tcl_lib.figures`.
            heading: displayed above the figures, if there are any.
            **options: of the drawing function.
        """
        from IPython.display import Markdown, display  # only notebooks need IPython

        for name in self.settings:
            try:
                tables = self._read(draw, name)
                figure = write(self.folder / name, draw, tables, self.preset, self.width, **options)
            except NothingToDraw as nothing:
                log.info("%s: %s", name, nothing)
                continue
            if heading:
                display(Markdown(f"## {heading}"))
                heading = ""
            display(figure)
        write_index(self.folder)

    def show_table(self, make: Callable[[pd.DataFrame], tables.Printed], every: bool = False) -> None:
        """Write and display a table of every setting; where it would be empty, one line says so.

        Args:
            make: a function of `analysis.tables`.
            every: whether the table is of every variant, not only of one for each loss.
        """
        for name, rows in (self.settings if every else self.main).items():
            table = make(rows)
            if not len(table.cells):
                log.info("%s: the runs have nothing for the table of %s", name, make.__name__)
                continue
            tables.write_table(table, self.folder / name / make.__name__, f"tab:{name}-{make.__name__}")
            table.show()
        write_index(self.folder)


def write_index(folder: Path) -> None:
    """Write index.html: the figures and tables in the folders of a folder, with their captions."""
    files.make_folder(folder)
    with FileLock(folder / ".index.lock"):  # two notebooks may write at the same time
        sections = [_section(path) for path in sorted(folder.iterdir()) if path.is_dir()]
        content = "\n".join(["<h1>Figures and tables</h1>", *filter(None, sections)])
        files.write(folder / "index.html", PAGE.format(content=content))


def _section(folder: Path) -> str:
    parts = []
    for path in sorted(folder.glob("*.txt")):
        written = sorted(folder.glob(f"{path.stem}-*mm.*"), key=lambda file: (len(file.stem), file.name))
        if pictures := [file for file in written if file.suffix == ".png"]:
            words = html.escape(path.read_text().strip())
            links = ", ".join(_link(file) for file in written)
            picture = f'<img src="{_address(pictures[-1])}" alt="{words}" loading="lazy">'
            parts.append(f"<figure>{picture}<figcaption>{words}<br>{links}</figcaption></figure>")
    for path in sorted(folder.glob("*.tex")):
        markdown = path.with_suffix(".md")
        text = html.escape(markdown.read_text()) if markdown.exists() else ""
        parts.append(f"<pre>{text}</pre>{_link(path)}, {_link(markdown)}")
    return "\n".join([f"<h2>{html.escape(folder.name)}</h2>", *parts]) if parts else ""


def _address(path: Path) -> str:
    return html.escape(f"{path.parent.name}/{path.name}")


def _link(path: Path) -> str:
    return f'<a href="{_address(path)}">{html.escape(path.name)}</a>'
