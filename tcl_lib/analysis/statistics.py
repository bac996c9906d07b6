"""Statistics of tables of runs: which belong together, means over seeds, differences. Imports no torch."""

import warnings
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import stdtrit  # scipy.stats would take a second to import

from tcl_lib import runs
from tcl_lib.config.registry import LOSS_PARAMETERS, LOSSES
from tcl_lib.runs.names import in_order, loss_of
from tcl_lib.utils.words import digest, listed


def settings(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the runs of each setting: a short name for files -> the setting's rows.

    A setting has a main variant of each loss, which bears the label of the loss: the variant with the
    defaults, or without one, that with the values of the most runs, of any loss. Of several, it is the one
    that differs least from the others, then the one with the fewest changes. If that leaves several, it is
    the first by name, and a warning says so. The column `tuned` then has these values, and the other variants
    are named by what differs from them. Runs that are named so keep their names.

    A run that is there twice, in two folders, counts once: the others are skipped with a warning. Raises
    ValueError if there are no runs.
    """
    if not len(table):
        raise ValueError(
            "no finished run to show: train some with train.ipynb or ablation.ipynb,"
            " or set runs_dir='runs/reference' for the runs that come with the project"
        )
    found: dict[str, pd.DataFrame] = {}
    for setting, rows in runs.distinct(table).groupby("setting", sort=False):
        name = _short(rows.iloc[0])
        found[name if name not in found else name + digest(setting)] = _named(rows)
    return found


def _named(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the runs of a setting with the variants named after the main one of each loss."""
    if "tuned" in rows and rows["tuned"].notna().all():
        return rows
    paths = dict(zip(rows["variant"], rows["path"], strict=True))
    values = {variant: variant.partition(", ")[2] for variant in paths}
    common = rows["variant"].map(values).value_counts()

    def rank(variant: str, parameters: dict[str, dict]) -> tuple[int, int, int]:
        own = parameters[variant]
        apart = sum(own.get(name) != other.get(name) for other in parameters.values() for name in own | other)
        return -common[values[variant]], apart, values[variant].count(", ")

    names: dict[str, str] = {}
    tuned: dict[str, str] = {}
    for loss in LOSSES.values():
        of_loss = [variant for variant in paths if loss_of(variant) == loss.label]
        if not of_loss or loss.label in of_loss:
            continue
        parameters = {variant: _loss_parameters(paths[variant]) for variant in of_loss}
        first, *others = sorted(of_loss, key=lambda variant: (*rank(variant, parameters), variant))
        if others and rank(others[0], parameters) == rank(first, parameters):
            words = f"no {loss.label} run has the default parameters, and no variant has the most runs"
            warnings.warn(f"{words}: {loss.label} is {first}", stacklevel=3)
        tuned |= dict.fromkeys(of_loss, values[first])
        for variant, own in parameters.items():
            changed = {name: value for name, value in own.items() if value != parameters[first].get(name)}
            names[variant] = ", ".join([loss.label, *listed(changed)])
    values = [tuned.get(variant, "") for variant in rows["variant"]]
    return rows.assign(variant=rows["variant"].replace(names), tuned=values)


def _loss_parameters(path: str) -> dict:
    identity = runs.load_run(path).config.identity()
    return {name: value for name, value in identity.items() if name in LOSS_PARAMETERS}


def main_variants(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the runs of the main variant of each loss, of the rows of one of `settings`."""
    return pd.concat([rows[rows["variant"] == loss.label] for loss in LOSSES.values()])


def varied(rows: pd.DataFrame, *parameters: str) -> pd.DataFrame:
    """Return the runs of a setting whose loss uses these parameters and that differ in nothing else.

    The table is empty if these parameters do not vary. The column `fixed` names the other parameters of the
    loss that are not the defaults; of several such groups of a loss, the largest is taken. The column
    `positives` becomes a text of those with an effect, "class+time".
    """
    groups: dict[tuple, dict[int, dict]] = {}
    for row in rows.itertuples():
        config = runs.load_run(row.path).config
        if not set(parameters) & config.identity().keys():
            continue
        changes = {k: v for k, v in config.changes().items() if k in LOSS_PARAMETERS and k not in parameters}
        # a weight of 0 has a temperature, too, though without effect
        values = {name: config.loss_parameters[name] for name in parameters}
        if "positives" in values:
            values["positives"] = "+".join(values["positives"])
        if any(value is None or isinstance(value, list) for value in values.values()):
            continue  # no temperature, or one for each of two terms
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


def t_interval(values: np.ndarray) -> Interval:
    """Return the 95 % interval of a mean by Student's t with n - 1 degrees of freedom: [n] -> low, high.

    It contains the true mean in 95 % of cases, however few values there are, if they are normal. It is NaN
    for fewer than two values.
    """
    count = len(values)
    if count < 2:
        return Interval(np.nan, np.nan)
    half = stdtrit(count - 1, 0.975) * np.std(values, ddof=1) / np.sqrt(count)
    return Interval(np.mean(values) - half, np.mean(values) + half)


def paired(values: pd.Series, baseline: pd.Series) -> dict[str, float]:
    """Return how values [seed] differ from those of a baseline with the same seed.

    Keys: `difference`, its mean; low, high, its 95 % interval (`t_interval`); pairs, the number of seeds that
    both have. Without any, the difference is NaN.
    """
    apart = (values - baseline).dropna()
    return {"difference": apart.mean(), **t_interval(apart.to_numpy())._asdict(), "pairs": len(apart)}


def compare(accuracy: pd.DataFrame, baseline: str = LOSSES["ce"].label) -> pd.DataFrame:
    """Return the accuracy of each variant at t = 1 and t = T, and its paired difference to a baseline.

    `accuracy` is the `accuracy_by_step` of the runs of one setting. Columns:
        variant, time_step
        mean, sd, n: of the cumulative test accuracy in percent over the seeds
        difference, low, high, pairs: as `paired` has them; NaN and 0 for the baseline itself

    Raises ValueError for runs of more than one setting.
    """
    runs.one_setting(accuracy)
    compared = []
    for step in sorted({1, accuracy["time_step"].max()}):
        rows = accuracy[accuracy["time_step"] == step]
        by_seed = rows.pivot(index="seed", columns="variant", values="cumulative")
        for variant in in_order(by_seed):
            values = by_seed[variant].dropna()
            row = {"variant": variant, "time_step": step}
            row |= {"mean": values.mean(), "sd": values.std(), "n": len(values)}
            others = by_seed[baseline] if baseline in by_seed and variant != baseline else values[:0]
            compared.append(row | paired(values, others))
    return pd.DataFrame(compared)


def best(accuracy: pd.DataFrame) -> dict[int, str]:
    """Return the variant that is ahead of every other at t = 1 and at t = T: step -> variant.

    Its mean is the highest, and the 95 % intervals of the paired differences of all others to it lie below 0
    (`compare`). A step at which no variant is that far ahead is left out.
    """
    found = {}
    for step, rows in compare(accuracy).groupby("time_step"):
        first = rows.loc[rows["mean"].idxmax(), "variant"]
        to_first = compare(accuracy[accuracy["time_step"] == step], baseline=first)
        others = to_first[to_first["variant"] != first]
        if len(others) and (others["high"] < 0).all():
            found[step] = first
    return found


def stale_statistics(accuracy: pd.DataFrame) -> pd.DataFrame:
    """Return how much of what each variant loses at t = 1 is due to batch-norm statistics of T steps.

    `accuracy` is the `accuracy_by_step` of the runs of one setting. Columns:
        variant; n: number of seeds
        lost, lost_sd: accuracy at T minus accuracy at t = 1, in percentage points, over the seeds
        regained: how much smaller this loss is for recalibrated accuracies; what recalibration gains at t = 1
            and at T alike does not count
        low, high: its 95 % interval (`t_interval`)
        share: regained / lost in percent; NaN where the loss is not certain: its 95 % interval contains 0,
            or for one seed, the intervals of both accuracies for the number of test samples overlap

    Raises ValueError for runs of more than one setting.
    """
    runs.one_setting(accuracy)
    found = []
    for variant in in_order(accuracy["variant"].unique()):
        steps = accuracy[accuracy["variant"] == variant].pivot(index="seed", columns="time_step")
        first, last = 1, accuracy["time_step"].max()
        lost = steps["cumulative"][last] - steps["cumulative"][first]
        regained = lost - (steps["recalibrated"][last] - steps["recalibrated"][first])
        several = len(lost) > 1
        certain = t_interval(lost).low > 0 if several else (steps["low"][last] > steps["high"][first]).all()
        low, high = t_interval(regained)
        found.append(
            {
                "variant": variant,
                "n": len(lost),
                "lost": lost.mean(),
                "lost_sd": lost.std(),
                "regained": regained.mean(),
                "low": low,
                "high": high,
                "share": 100 * regained.mean() / lost.mean() if certain else np.nan,
            }
        )
    return pd.DataFrame(found)


def mixed(rows: pd.DataFrame) -> str:
    """Return what a caption says of runs on different data, or in different surroundings, else "".

    `rows` is a table of runs, or what `runs.gather` makes of one. Data are its column fingerprint,
    surroundings the columns threads and processor.
    """
    sentences, found = [], []
    if "fingerprint" in rows:
        tests = rows["fingerprint"].str.split().str[-1]  # the same for every seed of a setting
        if tests.nunique() > 1 or (rows.groupby("seed")["fingerprint"].nunique() > 1).any():
            sentences.append("Not all runs are of the same data: their fingerprints differ.")
    for column, words in {"threads": "numbers of threads", "processor": "kinds of processor"}.items():
        values = rows[column].unique() if column in rows else []
        if len(values) > 1:
            named = sorted(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
            found.append(f"{words} ({', '.join(named)})")
    if found:
        sentences.append(
            f"The runs had different {' and '.join(found)}: that alone changes the numbers of a seed."
        )
    return " ".join(sentences)


def energy_by_layer(operations: pd.DataFrame) -> pd.DataFrame:
    """Return a run's `operations` summed over its time steps: a row for each layer, and the total."""
    sums = ["effective_macs", "effective_acs", "energy_uj", "ann_energy_uj"]
    layers = operations.groupby(["layer", "operation"])
    table = layers["dense"].first().to_frame().join(layers[sums].sum()).reset_index("operation")
    table.loc["total"] = {"operation": ""} | table.drop(columns="operation").sum().to_dict()
    return table


def _short(row: pd.Series) -> str:
    """Return a setting's name for files, with a hash if data, backbone and T do not say everything."""
    data = row["data"].replace("folder (", "").replace("events_", "")
    words = "".join(character if character.isalnum() or character in "-_" else " " for character in data)
    config = runs.load_run(row["path"]).config
    further = config.setting != f"{config.data_label}, {config.backbone}, T = {config.time_steps}"
    name = f"{'-'.join(words.split())}-{config.backbone}-T{config.time_steps}"
    return name + (digest(row["setting"]) if further else "")
