"""What a claim of the study rests on: paired differences between losses in every setting."""

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from tcl_lib import runs
from tcl_lib.analysis.statistics import mixed, paired, settings
from tcl_lib.analysis.tables import Printed, signed
from tcl_lib.config.registry import LOSSES
from tcl_lib.runs import Run
from tcl_lib.runs.names import titled_setting, tuned

SIMILARITY = {
    "cosine, same sample": ("cosine", "within_sample"),
    "cosine, same class": ("cosine", "within_class"),
    "cosine, other classes": ("cosine", "between_classes"),
    "CKA": ("cka_debiased", "within_sample"),
    "CKA of class means": ("cka_debiased", "between_classes"),
}


def accuracy(run: Run, column: str = "cumulative") -> dict[str, float]:
    """Return the test accuracy in percent when inference stops after 1, 2, 3 and all T time steps."""
    table = run.accuracy_by_step.set_index("time_step")
    last = table.index.max()
    return {"t = T" if t == last else f"t = {t}": table[column][t] for t in (1, 2, 3, last) if t <= last}


def recalibrated(run: Run) -> dict[str, float]:
    """Return the same with batch norm recalibrated to that number of steps."""
    return accuracy(run, "recalibrated")


def similarity(run: Run) -> dict[str, float]:
    """Return how similar the features are at the first and the last time step (CKA: debiased)."""
    table = run.similarity
    ends = table[(table["time_step"] == 1) & (table["other_step"] == run.config.time_steps)]
    values = ends.set_index(["measure", "relation"])["value"]
    return {name: values[key] for name, key in SIMILARITY.items() if key in values}


def price(run: Run) -> dict[str, float]:
    """Return what a run costs: seconds of training, firing rate, and µJ for a sample at t = 1 and T."""
    energy = run.operations.groupby("time_step")["energy_uj"].sum().cumsum()
    return {
        "training (s)": run.result["seconds"],
        "firing rate (%)": 100 * run.firing_rates["firing_rate"].mean(),
        "energy at t = 1 (µJ)": energy.iloc[0],
        "energy at T (µJ)": energy.iloc[-1],
    }


def differences(
    table: pd.DataFrame,
    measure: Callable[[Run], dict[str, float]] = accuracy,
    baseline: str = LOSSES["ce"].label,
    variants: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Return how variants, by default those of all losses, differ from a baseline in a measure of runs.

    Columns: data, setting, variant, quantity; n, the number of seeds that both have, and over these: `mean`,
    `difference`, the mean difference to the baseline, and low, high, its 95 % interval (`t_interval`). A
    variant without such a seed has the mean over its own. Settings without the baseline, or without another
    variant, have no rows.
    """
    variants = [loss.label for loss in LOSSES.values()] if variants is None else variants
    rows = []
    for setting in settings(table).values() if len(table) else ():
        if not {baseline} < {*setting["variant"]} & {baseline, *variants}:
            continue
        titles = dict(zip(("data", "setting"), titled_setting(setting), strict=True))
        measured = {
            variant: _by_seed(found, measure)
            for variant, found in setting.groupby("variant")
            if variant in (baseline, *variants)
        }
        for variant in [name for name in variants if name in measured and name != baseline]:
            for quantity in measured[variant].columns.intersection(measured[baseline].columns):
                values, others = measured[variant][quantity].dropna(), measured[baseline][quantity].dropna()
                both = values.index.intersection(others.index)
                mean = (values[both] if len(both) else values).mean()
                row = {"variant": variant, "quantity": quantity, "mean": mean, **paired(values, others)}
                rows.append(titles | row)
    columns = ("data", "setting", "variant", "quantity", "mean", "difference", "low", "high", "pairs")
    return pd.DataFrame(rows, columns=columns).rename(columns={"pairs": "n"})


def _by_seed(found: pd.DataFrame, measure: Callable[[Run], dict[str, float]]) -> pd.DataFrame:
    """Return a measure of runs: [seed, quantity]. A damaged run is skipped with a warning that names it."""
    measured = {}
    for run in found.itertuples():
        try:
            measured[run.seed] = measure(runs.load_run(run.path))
        except (OSError, ValueError) as error:
            warnings.warn(f"skipped {error}", stacklevel=2)
    return pd.DataFrame(measured).T


def claim(
    table: pd.DataFrame,
    measure: Callable[[Run], dict[str, float]] = accuracy,
    baseline: str = LOSSES["ce"].label,
    variants: Sequence[str] | None = None,
) -> Printed:
    """Return `differences` as a printed table: a row for each setting and variant."""
    found = differences(table, measure, baseline, variants)
    if found.empty:
        return Printed(found, "")
    several = found.groupby("data")["setting"].nunique() > 1
    rows: dict[tuple, dict] = {}
    for row in found.itertuples():
        data = f"{row.data}, {row.setting}" if several[row.data] else row.data
        cells = rows.setdefault((data, row.variant), {"data": data, "loss": row.variant, "n": row.n})
        cells[row.quantity] = f"{row.mean:.2f}, {signed(row.difference, row)}"
    above, below, of = (found["low"] > 0).sum(), (found["high"] < 0).sum(), found["low"].notna().sum()
    caption = (
        f"Mean over the n seeds that both have, then the mean difference to {baseline} with the same seed and"
        " its 95 % interval (Student's t); one seed has no interval."
        f" {above} of {of} intervals lie above 0 and {below} below."
        " Without any real difference, about one in twenty would exclude 0."
    )
    compared = [baseline, *found["variant"]]
    shown_settings = set(zip(found["data"], found["setting"], strict=True))
    remarks = set()
    for setting in settings(table).values():
        data, words = titled_setting(setting)
        if (data, words) in shown_settings:
            printed = setting[setting["variant"].isin(compared)]
            name = f"{data}, {words}" if several[data] else data
            remarks |= {mixed(printed), *(f"{name}: {values}." for values in tuned(printed))}
    remarks -= {""}
    return Printed(pd.DataFrame(rows.values()), " ".join([caption, *sorted(remarks)]))


def brief(table: pd.DataFrame, variants: Sequence[str], baselines: Sequence[str]) -> str:
    """Return in words how the accuracies of variants differ from those of baselines at t = 1 and T.

    It is Markdown: a list for each setting, without the pairs that the setting lacks.
    """
    lines: dict[str, list[str]] = {}
    for baseline in baselines:
        found = differences(table, accuracy, baseline, variants)
        for (data, setting, variant), rows in found.groupby(["data", "setting", "variant"], sort=False):
            ends = rows[rows["quantity"].isin(["t = 1", "t = T"])]
            words = "; ".join(f"at {row.quantity} {_in_words(row)}" for row in ends.itertuples())
            said = lines.setdefault(f"**{data}**, {setting}", [""])
            said.append(f"- {variant} against {baseline}, n = {ends['n'].max()}: {words}")
    return "\n\n".join("\n".join([setting, *said]) for setting, said in lines.items())


def _in_words(row) -> str:
    """Return a row of `differences` in words; "ahead" and "behind" only where the interval excludes 0."""
    if np.isnan(row.low) or row.low <= 0 <= row.high:
        return f"no difference shown, {signed(row.difference, row)}"
    return f"**{'ahead' if row.low > 0 else 'behind'}**, {signed(row.difference, row)}"


def show(
    table: pd.DataFrame,
    measure: Callable[[Run], dict[str, float]] = accuracy,
    baseline: str = LOSSES["ce"].label,
    variants: Sequence[str] | None = None,
) -> None:
    """Display a `claim` and its caption in a notebook; one line where there are no such runs."""
    found = claim(table, measure, baseline, variants)
    if found.caption:
        found.show()
    else:
        print(f"no runs of {baseline} and {' or '.join(variants or ['others'])} in one setting")
