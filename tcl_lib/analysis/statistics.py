"""Statistics of tables of runs: means over seeds, paired differences, printed tables. Imports no torch."""

import re
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import bootstrap

from tcl_lib import runs
from tcl_lib.config import LOSS_NAMES, LOSS_PARAMETERS
from tcl_lib.utils import files
from tcl_lib.utils.words import digest, listed

# Characters with a meaning in LaTeX, and how it writes them.
ESCAPED = {character: f"\\{character}" for character in "{}%&#_$"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def settings(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the runs of each setting: a short name for files -> the setting's rows.

    A run that is there twice, in two folders, counts once: the others are skipped with a warning. Raises
    ValueError if there are no runs.
    """
    if not len(table):
        raise ValueError(
            "no finished run to show: train some with train.ipynb or ablation.ipynb,"
            " or set runs_dir='runs/reference' for the runs that come with the project"
        )
    again = table.duplicated(["setting", "variant", "seed"])
    for row in table[again].itertuples():
        warnings.warn(f"skipped {row.path}: another folder holds the same run", stacklevel=2)
    found: dict[str, pd.DataFrame] = {}
    for setting, rows in table[~again].groupby("setting", sort=False):
        name = _short(rows.iloc[0])
        found[name if name not in found else name + digest(setting)] = rows
    return found


def main_variants(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the runs of one variant of each loss, for the runs of a setting: the variant with the defaults.

    If no run has the defaults, the variant with the most runs is taken (of several, the first by name), with
    a warning.
    """
    kept = []
    for loss, name in LOSS_NAMES.items():
        counts = rows[rows["loss"] == loss]["variant"].value_counts()
        if len(counts):
            variant = name if name in counts else min(counts.index, key=lambda words: (-counts[words], words))
            kept.append(rows[rows["variant"] == variant])
            if variant != name:
                warnings.warn(f"no {name} run has the default parameters, showing {variant}", stacklevel=2)
    return pd.concat(kept)


def varied(rows: pd.DataFrame, *parameters: str) -> pd.DataFrame:
    """Return the runs of a setting with a contrastive loss that differ only in these parameters.

    The table is empty if these parameters do not vary. The column `fixed` names the other parameters of the
    loss that are not the defaults; of several such groups of a loss, the largest is taken. The column
    `positives` becomes a text of those with an effect, "class+time".
    """
    groups: dict[tuple, dict[int, dict]] = {}
    for row in rows[rows["loss"].isin(["tcl", "stcl"])].itertuples():
        config = runs.load_run(row.path).config
        changes = {k: v for k, v in config.changes().items() if k in LOSS_PARAMETERS and k not in parameters}
        values = {name: config.identity()[name] for name in parameters}
        if "positives" in values:
            values["positives"] = "+".join(values["positives"])
        fixed = ", ".join(listed(changes))
        groups.setdefault((row.loss, fixed), {})[row.Index] = values | {"fixed": fixed}
    largest: dict[str, dict[int, dict]] = {}
    for (loss, _), group in sorted(groups.items()):
        if len({tuple(values.values()) for values in group.values()}) > 1:
            largest[loss] = max(largest.get(loss, {}), group, key=len)
    found = {index: values for group in largest.values() for index, values in group.items()}
    if not found:
        return rows[:0]
    return rows.loc[sorted(found)].assign(**pd.DataFrame.from_dict(found, orient="index"))


class Interval(NamedTuple):
    low: float
    high: float


def bootstrap_interval(values: np.ndarray) -> Interval:
    """Return the 95 % interval of a mean by the percentile bootstrap (Efron 1979): [n] -> low, high.

    It is NaN for fewer than two values, and much too narrow for few: for three values it is their range,
    which contains the true mean in three of four cases. The same values give the same interval.
    """
    if len(values) < 2:
        return Interval(np.nan, np.nan)
    drawn = bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(0))
    return Interval(*map(float, drawn.confidence_interval))


def compare(accuracy: pd.DataFrame, baseline: str = LOSS_NAMES["ce"]) -> pd.DataFrame:
    """Return the accuracy of each variant at t = 1 and t = T, and its paired difference to a baseline.

    `accuracy` is the `accuracy_by_step` of the runs of one setting. Columns:
        variant, time_step
        mean, sd, n: of the cumulative test accuracy in percent over the seeds
        difference: mean difference to the baseline with the same seed
        low, high: its 95 % interval (`bootstrap_interval`)
        pairs: number of seeds that both have

    Raises ValueError for runs of more than one setting.
    """
    runs.one_setting(accuracy)
    compared = []
    for step in sorted({1, accuracy["time_step"].max()}):
        rows = accuracy[accuracy["time_step"] == step]
        by_seed = rows.pivot(index="seed", columns="variant", values="cumulative")
        for variant in sorted(by_seed, key=_order):
            values = by_seed[variant].dropna()
            differences = np.array([])
            if baseline in by_seed and variant != baseline:
                differences = (by_seed[variant] - by_seed[baseline]).dropna().to_numpy()
            low, high = bootstrap_interval(differences)
            compared.append(
                {
                    "variant": variant,
                    "time_step": step,
                    "mean": values.mean(),
                    "sd": values.std(),
                    "n": len(values),
                    "difference": differences.mean() if len(differences) else np.nan,
                    "low": low,
                    "high": high,
                    "pairs": len(differences),
                }
            )
    return pd.DataFrame(compared)


def results_table(compared: pd.DataFrame) -> pd.DataFrame:
    """Return `compare` as a printed table: accuracies in percent, differences in percentage points."""
    table: dict[str, dict] = {}
    last = compared["time_step"].max()
    for row in compared.itertuples():
        step = f"t = T = {last}" if row.time_step == last else "t = 1"
        cells = table.setdefault(row.variant, {"loss": row.variant, "seeds": row.n})
        cells[f"{step} (%)"] = _spread(row.mean, row.sd)
        cells[f"to CE at {step} (points)"] = _difference(row)
    return pd.DataFrame(table.values())


def energy_by_layer(operations: pd.DataFrame) -> pd.DataFrame:
    """Return a run's `operations` summed over its time steps: a row for each layer, and the total."""
    sums = ["effective_macs", "effective_acs", "energy_uj", "ann_energy_uj"]
    layers = operations.groupby(["layer", "operation"])
    table = layers["dense"].first().to_frame().join(layers[sums].sum()).reset_index("operation")
    table.loc["total"] = {"operation": ""} | table.drop(columns="operation").sum().to_dict()
    return table


def write_table(table: pd.DataFrame, path: Path, setting: str) -> None:
    """Write a `results_table` as Markdown and LaTeX, `path`.md and .tex, with a caption that explains it."""
    caption = (
        f"{setting}. Test accuracy in percent when inference stops after t time steps, with the weights of"
        " the last epoch: mean ± standard deviation over the seeds; beside it the mean difference to CE in"
        " percentage points, seed by seed, and its 95 % interval (percentile bootstrap over the seeds; of"
        " three seeds, their range)."
    )
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


def _short(row: pd.Series) -> str:
    """Return a setting's name for files, with a hash if data, backbone and T do not say everything."""
    data = row["data"].replace("folder (", "").replace("events_", "")
    words = "".join(character if character.isalnum() or character in "-_" else " " for character in data)
    config = runs.load_run(row["path"]).config
    further = config.setting != f"{config.data_label}, {config.backbone}, T = {config.time_steps}"
    name = f"{'-'.join(words.split())}-{config.backbone}-T{config.time_steps}"
    return name + (digest(row["setting"]) if further else "")


def _order(variant: str) -> tuple:
    return list(LOSS_NAMES.values()).index(variant.split(", ")[0]), len(variant), variant


def _spread(mean: float, sd: float) -> str:
    return f"{mean:.2f}" if np.isnan(sd) else f"{mean:.2f} ± {sd:.2f}"


def _difference(row) -> str:
    if np.isnan(row.difference):
        return "–"
    text = f"{row.difference:+z.2f}"  # z: no -0.00
    if not np.isnan(row.low):
        text += f" [{row.low:+z.2f}, {row.high:+z.2f}]"
    if row.pairs != row.n:
        text += f" ({row.pairs} pair{'s' if row.pairs > 1 else ''})"
    return text.replace("-", "−")
