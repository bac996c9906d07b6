"""Printed tables of results: in notebooks, Markdown and LaTeX. Imports no torch."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from tcl_lib import runs
from tcl_lib.analysis.statistics import Interval, best, compare, mixed, stale_statistics
from tcl_lib.runs import Run
from tcl_lib.utils import files

RESULTS = (
    "Test accuracy when inference stops after t time steps, with the weights of the last epoch:"
    " mean ± standard deviation over the seeds. Difference to CE: mean of the differences between runs with"
    " the same seed, and its 95 % interval (Student's t). One seed has no interval."
)
RECALIBRATION = (
    "Lost at t = 1: accuracy of all time steps minus that of the first, mean ± standard deviation over the"
    " seeds. Regained: how much less is lost when batch norm is recalibrated to the number of time steps,"
    " with the 95 % interval (Student's t). The share is the ratio of the two means, where the loss of"
    " accuracy is certain."
)
BOLD = "Bold: ahead of every other loss, by the 95 % intervals of the paired differences."
# Characters with a meaning in LaTeX, and how it writes them; then our own signs and formulas.
ESCAPED = {character: f"\\{character}" for character in "{}%&#_$"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}
SIGNS = {"±": r"$\pm$", "−": "$-$", "–": "--", "τ": r"$\tau$"}
FORMULA = re.compile(r"\b(?:t = T = \d+|[tT] = \d+|t(?= time steps))")


class Printed(NamedTuple):
    """A table as it is printed."""

    cells: pd.DataFrame
    caption: str
    best: tuple[tuple[int, str], ...] = ()  # (row, column) of the cells in bold

    def show(self) -> None:
        """Display the table and its caption in a notebook."""
        from IPython.display import display  # only notebooks need IPython

        display(shown(self.cells))
        print(self.caption)


def results(found: Run | Iterable[Run] | pd.DataFrame) -> Printed:
    """Return the accuracies of the runs of a setting at t = 1 and T, and the differences to CE.

    The best value is in bold only where it is ahead of every other (`statistics.best`).
    """
    table = runs.table(found)
    accuracy = runs.gather(table, "accuracy_by_step")
    if accuracy.empty:
        return Printed(accuracy, "")
    cells = results_table(compare(accuracy))
    leading = tuple(
        (cells.index[cells["loss"] == variant][0], f"{_at(step, accuracy['time_step'].max())} (%)")
        for step, variant in best(accuracy).items()
    )
    return Printed(cells, caption(table, RESULTS), leading)


def recalibration(found: Run | Iterable[Run] | pd.DataFrame) -> Printed:
    """Return what the accuracy of the runs of a setting loses at t = 1, and what recalibration regains."""
    table = runs.table(found)
    accuracy = runs.gather(table, "accuracy_by_step")
    if accuracy.empty:
        return Printed(accuracy, "")
    return Printed(recalibration_table(stale_statistics(accuracy)), caption(table, RECALIBRATION))


class Shown(Styler):
    """A table as a notebook shows it; as text, the same without HTML."""

    def __repr__(self) -> str:
        return self.data.to_string(index=False, na_rep="–")


def shown(table: pd.DataFrame, digits: int = 2) -> Shown:
    """Return a table as a notebook shows it: without row numbers, whole numbers without a decimal point."""
    if table.index.name is not None:
        table = table.reset_index()
    table = table.round(digits).convert_dtypes()
    return Shown(table).hide(axis="index").format(precision=digits, thousands=",", na_rep="–")


def results_table(compared: pd.DataFrame) -> pd.DataFrame:
    """Return `compare` as a printed table: accuracies in percent, differences in percentage points."""
    table: dict[str, dict] = {}
    last = compared["time_step"].max()
    for row in compared.itertuples():
        step = _at(row.time_step, last)
        cells = table.setdefault(row.variant, {"loss": row.variant, "seeds": row.n})
        cells[f"{step} (%)"] = _spread(row.mean, row.sd)
        pairs = f" ({row.pairs} pair{'s' if row.pairs > 1 else ''})" if 0 < row.pairs != row.n else ""
        cells[f"to CE at {step} (points)"] = signed(row.difference, Interval(row.low, row.high)) + pairs
    return pd.DataFrame(table.values())


def recalibration_table(stale: pd.DataFrame) -> pd.DataFrame:
    """Return `stale_statistics` as a printed table, in percentage points and percent."""
    return pd.DataFrame(
        {
            "loss": row.variant,
            "seeds": row.n,
            "lost at t = 1 (points)": _spread(row.lost, row.lost_sd),
            "regained (points)": signed(row.regained, Interval(row.low, row.high)),
            "share (%)": "–" if np.isnan(row.share) else f"{row.share:z.0f}".replace("-", "−"),
        }
        for row in stale.itertuples()
    )


def caption(rows: pd.DataFrame, words: str = "") -> str:
    """Return the caption of a table of these runs: their setting, what it shows, and what it mixes."""
    setting = runs.names.setting_in_words(rows)
    return " ".join(text for text in (f"{setting}.", words, mixed(rows)) if text)


def write_table(table: Printed, path: Path, label: str) -> None:
    """Write a table as Markdown and LaTeX, `path`.md and .tex; `label` is that of LaTeX."""
    files.make_folder(path.parent)
    for suffix, text in (("md", markdown(table.cells, table.caption)), ("tex", latex(table, label))):
        files.write(path.with_name(f"{path.name}.{suffix}"), text)


def markdown(cells: pd.DataFrame, caption: str) -> str:
    """Return a table in Markdown with its caption below."""
    return f"{cells.to_markdown(index=False)}\n\n{caption}\n"


def latex(table: Printed, label: str) -> str:
    """Return a table in LaTeX, for the package booktabs."""
    cells = table.cells.astype(str).map(_latex)
    for row, column in table.best:
        cells.loc[row, column] = rf"\textbf{{{cells.loc[row, column]}}}"
    return (
        cells.rename(columns=_latex)
        .style.hide(axis="index")
        .to_latex(
            column_format="l" + "c" * (cells.shape[1] - 1),
            position="tbp",
            position_float="centering",
            hrules=True,
            caption=_latex(" ".join([table.caption, *[BOLD for _ in table.best[:1]]])),
            label=label,
        )
    )


def _latex(text: str) -> str:
    text = re.sub(r"[\\~^{}%&#_$]", lambda found: ESCAPED[found[0]], text)
    for sign, command in SIGNS.items():
        text = text.replace(sign, command)
    return FORMULA.sub(lambda found: f"${found[0]}$", text)


def _at(step: int, last: int) -> str:
    return f"t = T = {last}" if step == last else f"t = {step}"


def _spread(mean: float, sd: float) -> str:
    text = f"{mean:z.2f}" if np.isnan(sd) else f"{mean:z.2f} ± {sd:.2f}"  # z: no -0.00
    return text.replace("-", "−")


def signed(mean: float, interval: Interval) -> str:
    """Return a difference and its interval as they are printed; a dash for none."""
    if np.isnan(mean):
        return "–"
    text = f"{mean:+z.2f}"
    if not np.isnan(interval.low):
        text += f" [{interval.low:+z.2f}, {interval.high:+z.2f}]"
    return text.replace("-", "−")
