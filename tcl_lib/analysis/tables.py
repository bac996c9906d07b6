"""Printed tables of results, in Markdown and LaTeX. Imports no torch."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from tcl_lib import runs
from tcl_lib.analysis.statistics import Interval, mixed
from tcl_lib.utils import files

RESULTS = (
    "Test accuracy when inference stops after t time steps, with the weights of the last epoch:"
    " mean ± standard deviation over the seeds. Difference to CE: mean of the differences between runs with"
    " the same seed, and its 95 % interval (Student's t). One seed has no interval."
)
RECALIBRATION = (
    "Lost at t = 1: accuracy of all time steps minus that of the first, mean ± standard deviation over the"
    " seeds. Regained: what the first time step gains when batch norm is recalibrated to it, with the 95 %"
    " interval (Student's t). The share is the ratio of the two means, where the loss of accuracy is certain."
)
# Characters with a meaning in LaTeX, and how it writes them.
ESCAPED = {character: f"\\{character}" for character in "{}%&#_$"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def results_table(compared: pd.DataFrame) -> pd.DataFrame:
    """Return `compare` as a printed table: accuracies in percent, differences in percentage points."""
    table: dict[str, dict] = {}
    last = compared["time_step"].max()
    for row in compared.itertuples():
        step = f"t = T = {last}" if row.time_step == last else "t = 1"
        cells = table.setdefault(row.variant, {"loss": row.variant, "seeds": row.n})
        cells[f"{step} (%)"] = _spread(row.mean, row.sd)
        pairs = f" ({row.pairs} pair{'s' if row.pairs > 1 else ''})" if 0 < row.pairs != row.n else ""
        cells[f"to CE at {step} (points)"] = _signed(row.difference, Interval(row.low, row.high)) + pairs
    return pd.DataFrame(table.values())


def recalibration_table(stale: pd.DataFrame) -> pd.DataFrame:
    """Return `stale_statistics` as a printed table, in percentage points and percent."""
    return pd.DataFrame(
        {
            "loss": row.variant,
            "seeds": row.n,
            "lost at t = 1 (points)": _spread(row.lost, row.lost_sd),
            "regained (points)": _signed(row.regained, Interval(row.low, row.high)),
            "share (%)": "–" if np.isnan(row.share) else f"{row.share:.0f}".replace("-", "−"),
        }
        for row in stale.itertuples()
    )


def caption(rows: pd.DataFrame, words: str = "") -> str:
    """Return the caption of a table of these runs: their setting, what it shows, and what it mixes."""
    return " ".join(text for text in (f"{runs.one_setting(rows)}.", words, mixed(rows)) if text)


def write_table(table: pd.DataFrame, path: Path, caption: str) -> None:
    """Write a printed table as Markdown and LaTeX, `path`.md and .tex."""
    for suffix, text in (("md", markdown(table, caption)), ("tex", latex(table, caption))):
        files.write(path.with_name(f"{path.name}.{suffix}"), text)


def markdown(table: pd.DataFrame, caption: str) -> str:
    """Return a table in Markdown with its caption below."""
    return f"{table.to_markdown(index=False)}\n\n{caption}\n"


def latex(table: pd.DataFrame, caption: str) -> str:
    """Return a table in LaTeX, for the package booktabs."""
    # pandas escapes only the cells
    caption = re.sub(r"[\\~^{}%&#_$]", lambda found: ESCAPED[found[0]], caption)
    text = table.to_latex(index=False, escape=True, caption=caption, position="tbp")
    for sign, command in {"±": r"$\pm$", "−": "$-$", "–": "--", "τ": r"$\tau$"}.items():
        text = text.replace(sign, command)
    return text


def _spread(mean: float, sd: float) -> str:
    text = f"{mean:z.2f}" if np.isnan(sd) else f"{mean:z.2f} ± {sd:.2f}"  # z: no -0.00
    return text.replace("-", "−")


def _signed(mean: float, interval: Interval) -> str:
    if np.isnan(mean):
        return "–"
    text = f"{mean:+z.2f}"
    if not np.isnan(interval.low):
        text += f" [{interval.low:+z.2f}, {interval.high:+z.2f}]"
    return text.replace("-", "−")
